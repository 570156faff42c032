// Attention over one block of 64 logical positions (backend.h, KvLayout). Every score is one fma
// chain over head_dim, every output one fma chain over the positions in logical order, so neither
// depends on the slots, nor on which other queries share the loads. Q8_0 keys and values are
// multiplied as integers, exactly, so that order matters even less: a score is one fma chain over
// the blocks of 32 values, an output one integer over the positions.
namespace forerun {
namespace {

// Queries go through in blocks of kMost, then the rest together.
template <int kQueries, typename Body>
FORERUN_INLINE void rest_of_queries(int32_t rest, int32_t query, Body& body) {
  if constexpr (kQueries > 0) {
    if (rest == kQueries) {
      body(Step<kQueries>(), query);
    } else {
      rest_of_queries<kQueries - 1>(rest, query, body);
    }
  }
}
template <int kMost, typename Body>
FORERUN_INLINE void each_query_block(int32_t queries, Body&& body) {
  int32_t query = 0;
  for (; query + kMost <= queries; query += kMost) body(Step<kMost>(), query);
  rest_of_queries<kMost - 1>(queries - query, query, body);
}

// How keys and values of one type are read.
struct HalfCells {
  static constexpr int kBytes = 2;
  static FORERUN_INLINE F32x16 load(const void* p) { return load_half(p); }
  static FORERUN_INLINE F32x16 load_n(const void* p, int n) { return load_half_n(p, n); }
};
struct FloatCells {
  static constexpr int kBytes = 4;
  static FORERUN_INLINE F32x16 load(const void* p) {
    return forerun::load(static_cast<const float*>(p));
  }
  static FORERUN_INLINE F32x16 load_n(const void* p, int n) {
    return forerun::load_n(static_cast<const float*>(p), n);
  }
};

// Asks for part `i` of a block that is read next.
FORERUN_INLINE void prefetch_part(const void* block, int64_t i, int32_t bytes) {
  if (block == nullptr) return;
  const auto* part = static_cast<const uint8_t*>(block) + i * bytes;
  for (int32_t line = 0; line < bytes; line += 64) __builtin_prefetch(part + line, 0, 2);
}

// kCellVectors * 16 slots from `slot`
template <typename Cells, int kQueries>
FORERUN_INLINE void score_part(const ScoreArgs& args, int32_t first, int32_t slot,
                               const void* next) {
  const int32_t head_dim = args.head_dim;
  const float* query = args.query + first * head_dim;
  const auto* keys = static_cast<const uint8_t*>(args.keys) + slot * Cells::kBytes;
  F32x16 acc[kQueries][kCellVectors];
  for (int j = 0; j < kQueries; ++j) {
    for (int c = 0; c < kCellVectors; ++c) acc[j][c] = zero();
  }
  for (int32_t i = 0; i < head_dim; ++i) {
    F32x16 key[kCellVectors];
    prefetch_part(next, i, 64 * Cells::kBytes);
    for (int c = 0; c < kCellVectors; ++c) {
      key[c] = Cells::load(keys + (i * 64 + c * 16) * Cells::kBytes);
    }
    for (int j = 0; j < kQueries; ++j) {
      const F32x16 q = splat(query[j * head_dim + i]);
      for (int c = 0; c < kCellVectors; ++c) acc[j][c] = fma(q, key[c], acc[j][c]);
    }
  }
  float* score = args.score + first * 64 + slot;
  for (int j = 0; j < kQueries; ++j) {
    for (int c = 0; c < kCellVectors; ++c) store(score + j * 64 + c * 16, acc[j][c]);
  }
}

template <typename Cells>
void score(const ScoreArgs& args) {
  each_query_block<kCellQueries>(
      args.queries, [&](auto count, int32_t query) __attribute__((always_inline)) {
        for (int32_t slot = 0; slot < 64; slot += kCellVectors * 16) {
          score_part<Cells, decltype(count)::value>(args, query, slot,
                                                    query + slot == 0 ? args.next : nullptr);
        }
      });
}

// kCodeVectors * 16 slots from `slot`
template <int kQueries>
FORERUN_INLINE void score_codes_part(const ScoreArgs& args, int32_t first, int32_t slot,
                                     const void* next) {
  const int32_t blocks = args.head_dim / 32;
  const Activation32* query = args.codes + first * blocks;
  const auto* keys = static_cast<const uint8_t*>(args.keys);
  const uint8_t* scales = keys + args.head_dim * 64;
  F32x16 total[kQueries][kCodeVectors];
  for (int j = 0; j < kQueries; ++j) {
    for (int c = 0; c < kCodeVectors; ++c) total[j][c] = zero();
  }
  for (int32_t b = 0; b < blocks; ++b, ++query) {
    I32x16 acc[kQueries][kCodeVectors];
    for (int j = 0; j < kQueries; ++j) {
      for (int c = 0; c < kCodeVectors; ++c) acc[j][c] = signed_start(query[j * blocks].start128);
    }
    prefetch_part(next, b, 64 * 34);
    for (int i = 0; i < 8; ++i) {
      B64 code[kCodeVectors];
      for (int c = 0; c < kCodeVectors; ++c) {
        code[c] = load_bytes(keys + (b * 8 + i) * 256 + slot * 4 + c * 64);
      }
      for (int j = 0; j < kQueries; ++j) {
        const int8_t* four = query[j * blocks].code + 4 * i;
        for (int c = 0; c < kCodeVectors; ++c) acc[j][c] = dot_signed(acc[j][c], code[c], four);
      }
    }
    for (int c = 0; c < kCodeVectors; ++c) {
      const F32x16 scale = load_half(scales + (b * 64 + slot + c * 16) * 2);
      for (int j = 0; j < kQueries; ++j) {
        const F32x16 both = mul(scale, splat(query[j * blocks].d));
        total[j][c] = fma(to_float(acc[j][c]), both, total[j][c]);
      }
    }
  }
  float* score = args.score + first * 64 + slot;
  for (int j = 0; j < kQueries; ++j) {
    for (int c = 0; c < kCodeVectors; ++c) store(score + j * 64 + c * 16, total[j][c]);
  }
}

void score_codes(const ScoreArgs& args) {
  each_query_block<kCodeQueries>(
      args.queries, [&](auto count, int32_t query) __attribute__((always_inline)) {
        for (int32_t slot = 0; slot < 64; slot += kCodeVectors * 16) {
          score_codes_part<decltype(count)::value>(args, query, slot,
                                                   query + slot == 0 ? args.next : nullptr);
        }
      });
}

void softmax(float* score, int32_t queries, int32_t count, Partials block) {
  for (int32_t query = 0; query < queries; ++query, score += 64) {
    for (int32_t i = count; i < 64; ++i) score[i] = -__builtin_inff();
    F32x16 v[4];
    for (int c = 0; c < 4; ++c) v[c] = load(score + c * 16);
    const float most = max_lanes(max(max(v[0], v[1]), max(v[2], v[3])));
    for (int c = 0; c < 4; ++c) {
      v[c] = exp_to_one(sub(v[c], splat(most)));
      store(score + c * 16, v[c]);
    }
    block.max[query] = most;
    block.sum[query] = sum_lanes(add(add(v[0], v[1]), add(v[2], v[3])));
  }
}

// Where a query's result goes: out itself, or added to it.
struct Target {
  float* out;
  bool adds;
  F32x16 keep, gain;
  FORERUN_INLINE Target(const WeighArgs& args, int32_t query, int32_t offset)
      : out(args.out + query * args.head_dim + offset), adds(args.keep != nullptr) {
    keep = adds ? splat(args.keep[query]) : zero();
    gain = adds ? splat(args.gain[query]) : zero();
  }
  FORERUN_INLINE void put(int c, F32x16 x) const {
    store(out + c * 16, adds ? fma(load(out + c * 16), keep, mul(x, gain)) : x);
  }
  FORERUN_INLINE void put_n(F32x16 x, int n) const {
    store_n(out, adds ? fma(load_n(out, n), keep, mul(x, gain)) : x, n);
  }
};

// kVectors * 16 values of the head from `offset`
template <typename Cells, int kQueries, int kVectors>
FORERUN_INLINE void weigh_part(const WeighArgs& args, int32_t query, int32_t offset,
                               const void* next) {
  const float* weight = args.weight + query * 64;
  F32x16 acc[kQueries][kVectors];
  for (int j = 0; j < kQueries; ++j) {
    for (int c = 0; c < kVectors; ++c) acc[j][c] = zero();
  }
  for (int32_t i = 0; i < args.count; ++i) {
    prefetch_part(next, i, args.head_dim * Cells::kBytes);
    F32x16 value[kVectors];
    for (int c = 0; c < kVectors; ++c) {
      value[c] = Cells::load(args.value[i] + (offset + c * 16) * Cells::kBytes);
    }
    for (int j = 0; j < kQueries; ++j) {
      const F32x16 w = splat(weight[j * 64 + i]);
      for (int c = 0; c < kVectors; ++c) acc[j][c] = fma(w, value[c], acc[j][c]);
    }
  }
  for (int j = 0; j < kQueries; ++j) {
    const Target target(args, query + j, offset);
    for (int c = 0; c < kVectors; ++c) target.put(c, acc[j][c]);
  }
}

template <typename Cells>
FORERUN_INLINE void weigh_rest(const WeighArgs& args, int32_t query, int32_t offset) {
  const int32_t rest = args.head_dim - offset;
  F32x16 acc = zero();
  for (int32_t i = 0; i < args.count; ++i) {
    acc = fma(splat(args.weight[query * 64 + i]),
              Cells::load_n(args.value[i] + offset * Cells::kBytes, rest), acc);
  }
  Target(args, query, offset).put_n(acc, rest);
}

template <typename Cells, int kQueries>
FORERUN_INLINE void weigh_queries(const WeighArgs& args, int32_t query, const void* next) {
  int32_t offset = 0;
  for (; offset + kCellVectors * 16 <= args.head_dim; offset += kCellVectors * 16) {
    weigh_part<Cells, kQueries, kCellVectors>(args, query, offset, offset == 0 ? next : nullptr);
  }
  for (; offset + 16 <= args.head_dim; offset += 16) {
    weigh_part<Cells, kQueries, 1>(args, query, offset, nullptr);
  }
  if (offset == args.head_dim) return;
  for (int j = 0; j < kQueries; ++j) weigh_rest<Cells>(args, query + j, offset);
}

template <typename Cells>
void weigh(const WeighArgs& args) {
  each_query_block<kCellQueries>(
      args.queries, [&](auto count, int32_t query) __attribute__((always_inline)) {
        weigh_queries<Cells, decltype(count)::value>(args, query, query == 0 ? args.next : nullptr);
      });
}

// Scales of 64 positions as a factor for weights of at most 1, whose products are then 16-bit
// codes; `worth` is what a code stands for. The largest code is 127 * 258 = 32766: 64 products with
// signed bytes fit an int32.
struct WeightCodes {
  F32x16 factor[4];
  float worth;
};
FORERUN_INLINE WeightCodes weight_codes(const uint16_t* scale, int32_t count) {
  constexpr float kSteps = 258.0F;
  WeightCodes codes;
  I32x16 most = zero_int();
  for (int c = 0; c < 4; ++c) {
    const int32_t lanes = count - c * 16;
    codes.factor[c] = load_half_n(scale + c * 16, lanes < 0 ? 0 : lanes < 16 ? lanes : 16);
    most = max_int(most, magnitude_bits(codes.factor[c]));
  }
  const BlockScale step = block_scale(max_lanes_int(most));
  for (int c = 0; c < 4; ++c) {
    codes.factor[c] = mul(codes.factor[c], splat(step.inverse * kSteps));
  }
  codes.worth = step.d / kSteps;
  return codes;
}

// 32 values of the head, those of one scale; pairs[i]: rows 2i and 2i + 1
template <int kQueries>
FORERUN_INLINE void weigh_codes_part(const WeighArgs& args, int32_t query, int32_t offset,
                                     const WeightCodes& weights, const B64 (&pairs)[32][2]) {
  alignas(64) int16_t code[kQueries][64];
  for (int j = 0; j < kQueries; ++j) {
    for (int c = 0; c < 4; ++c) {
      const F32x16 weight = load(args.weight + (query + j) * 64 + c * 16);
      store_int16(code[j] + c * 16, round_to_int(mul(weight, weights.factor[c])));
    }
  }
  for (int first = 0; first < 2; first += kCodeVectors) {
    I32x16 acc[kQueries][kCodeVectors];
    for (int j = 0; j < kQueries; ++j) {
      for (int c = 0; c < kCodeVectors; ++c) acc[j][c] = zero_int();
    }
    for (int32_t i = 0; 2 * i < args.count; ++i) {
      for (int j = 0; j < kQueries; ++j) {
        for (int c = 0; c < kCodeVectors; ++c) {
          acc[j][c] = dot_pairs(acc[j][c], pairs[i][first + c], code[j] + 2 * i);
        }
      }
    }
    for (int j = 0; j < kQueries; ++j) {
      const Target target(args, query + j, offset);
      for (int c = 0; c < kCodeVectors; ++c) {
        target.put(first + c, mul(to_float(acc[j][c]), splat(weights.worth)));
      }
    }
  }
}

void weigh_codes(const WeighArgs& args) {
  for (int32_t offset = 0; offset < args.head_dim; offset += 32) {
    const WeightCodes weights = weight_codes(args.scale + offset * 2, args.count);
    B64 pairs[32][2];
    for (int32_t i = 0; 2 * i < args.count; ++i) {
      const auto* even = reinterpret_cast<const int8_t*>(args.value[2 * i]) + offset;
      const int32_t second = 2 * i + 1 < args.count ? 2 * i + 1 : 2 * i;  // of weight 0 then
      const auto* odd = reinterpret_cast<const int8_t*>(args.value[second]) + offset;
      for (int c = 0; c < 2; ++c) pairs[i][c] = pair_rows(even + c * 16, odd + c * 16);
    }
    prefetch_part(args.next, offset / 32, 64 * 34);
    each_query_block<kCodeQueries>(
        args.queries, [&](auto count, int32_t query) __attribute__((always_inline)) {
          weigh_codes_part<decltype(count)::value>(args, query, offset, weights, pairs);
        });
  }
}

// A total of nothing has max -inf and sum 0.
void merge(int32_t queries, Partials total, Partials block, float* keep, float* gain) {
  for (int32_t i = 0; i < queries; i += 16) {
    const int lanes = queries - i < 16 ? queries - i : 16;
    const F32x16 total_max = load_n(total.max + i, lanes);
    const F32x16 block_max = load_n(block.max + i, lanes);
    const F32x16 most = max(total_max, block_max);
    const F32x16 kept = exp_to_one(sub(total_max, most));
    const F32x16 gained = exp_to_one(sub(block_max, most));
    const F32x16 sum = fma(load_n(total.sum + i, lanes), kept,
                           mul(load_n(block.sum + i, lanes), gained));
    store_n(total.max + i, most, lanes);
    store_n(total.sum + i, sum, lanes);
    store_n(keep + i, kept, lanes);
    store_n(gain + i, gained, lanes);
  }
}

void rescale(float* out, const float* block, int32_t count, float keep, float gain) {
  int32_t i = 0;
  for (; i + 16 <= count; i += 16) {
    store(out + i, fma(load(out + i), splat(keep), mul(load(block + i), splat(gain))));
  }
  const int32_t rest = count - i;
  if (rest == 0) return;
  const F32x16 scaled = mul(load_n(block + i, rest), splat(gain));
  store_n(out + i, fma(load_n(out + i, rest), splat(keep), scaled), rest);
}

}  // namespace
}  // namespace forerun
