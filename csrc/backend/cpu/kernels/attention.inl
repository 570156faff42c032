// Attention over one block of 64 logical positions (backend.h, KvLayout). Every score is one fma
// chain over head_dim, every output one fma chain over the positions in logical order, so neither
// depends on the slots, nor on which other queries share the loads.
namespace forerun {
namespace {

// Queries go through in blocks of kQueryBlock, then 4, 2 and 1.
template <typename Body>
FORERUN_INLINE void each_query_block(int32_t queries, Body&& body) {
  int32_t query = 0;
  for (; query + kQueryBlock <= queries; query += kQueryBlock) body(Step<kQueryBlock>(), query);
  if constexpr (kQueryBlock > 4) {
    if (query + 4 <= queries) {
      body(Step<4>(), query);
      query += 4;
    }
  }
  if constexpr (kQueryBlock > 2) {
    if (query + 2 <= queries) {
      body(Step<2>(), query);
      query += 2;
    }
  }
  for (; query < queries; ++query) body(Step<1>(), query);
}

// Asks for `bytes` of a block that is read next.
FORERUN_INLINE void prefetch_bytes(const uint8_t* p, int32_t bytes) {
  for (int32_t line = 0; line < bytes; line += 64) __builtin_prefetch(p + line, 0, 2);
}

template <int kQueries>
FORERUN_INLINE void score_queries(const ScoreArgs& args, int32_t first, const uint8_t* next) {
  const int32_t head_dim = args.head_dim;
  const float* query = args.query + first * head_dim;
  float* score = args.score + first * 64;
  F32x16 acc[kQueries][4];
  for (int j = 0; j < kQueries; ++j) {
    for (int c = 0; c < 4; ++c) acc[j][c] = zero();
  }
  for (int32_t i = 0; i < head_dim; ++i) {
    F32x16 key[4];
    if (next != nullptr) prefetch_bytes(next + i * 128, 128);
    for (int c = 0; c < 4; ++c) key[c] = load_half(args.keys + i * 64 + c * 16);
    for (int j = 0; j < kQueries; ++j) {
      const F32x16 q = splat(query[j * head_dim + i]);
      for (int c = 0; c < 4; ++c) acc[j][c] = fma(q, key[c], acc[j][c]);
    }
  }
  for (int j = 0; j < kQueries; ++j) {
    for (int c = 0; c < 4; ++c) store(score + j * 64 + c * 16, acc[j][c]);
  }
}

void score(const ScoreArgs& args) {
  const auto* next = static_cast<const uint8_t*>(args.next);
  each_query_block(
      args.queries, [&](auto count, int32_t query) __attribute__((always_inline)) {
        score_queries<decltype(count)::value>(args, query, query == 0 ? next : nullptr);
      });
}

Partial softmax(float* score, int32_t count) {
  for (int32_t i = count; i < 64; ++i) score[i] = -__builtin_inff();
  F32x16 v[4];
  for (int c = 0; c < 4; ++c) v[c] = load(score + c * 16);
  const float most = max_lanes(max(max(v[0], v[1]), max(v[2], v[3])));
  for (int c = 0; c < 4; ++c) {
    v[c] = exp_lanes(sub(v[c], splat(most)));
    store(score + c * 16, v[c]);
  }
  return {most, sum_lanes(add(add(v[0], v[1]), add(v[2], v[3])))};
}

// kVectors * 16 values of the head from `offset`
template <int kQueries, int kVectors>
FORERUN_INLINE void weigh_part(const WeighArgs& args, int32_t query, int32_t offset,
                               const uint8_t* next) {
  const float* weight = args.weight + query * 64;
  F32x16 acc[kQueries][kVectors];
  for (int j = 0; j < kQueries; ++j) {
    for (int c = 0; c < kVectors; ++c) acc[j][c] = zero();
  }
  for (int32_t i = 0; i < args.count; ++i) {
    if (next != nullptr) prefetch_bytes(next + i * 2 * args.head_dim, 2 * args.head_dim);
    F32x16 value[kVectors];
    for (int c = 0; c < kVectors; ++c) value[c] = load_half(args.value[i] + offset + c * 16);
    for (int j = 0; j < kQueries; ++j) {
      const F32x16 w = splat(weight[j * 64 + i]);
      for (int c = 0; c < kVectors; ++c) acc[j][c] = fma(w, value[c], acc[j][c]);
    }
  }
  float* out = args.out + query * args.head_dim + offset;
  for (int j = 0; j < kQueries; ++j) {
    for (int c = 0; c < kVectors; ++c) store(out + j * args.head_dim + c * 16, acc[j][c]);
  }
}

FORERUN_INLINE void weigh_rest(const WeighArgs& args, int32_t query, int32_t offset) {
  const int32_t rest = args.head_dim - offset;
  F32x16 acc = zero();
  for (int32_t i = 0; i < args.count; ++i) {
    acc = fma(splat(args.weight[query * 64 + i]), load_half_n(args.value[i] + offset, rest), acc);
  }
  store_n(args.out + query * args.head_dim + offset, acc, rest);
}

template <int kQueries>
FORERUN_INLINE void weigh_queries(const WeighArgs& args, int32_t query, const uint8_t* next) {
  int32_t offset = 0;
  for (; offset + 64 <= args.head_dim; offset += 64) {
    weigh_part<kQueries, 4>(args, query, offset, offset == 0 ? next : nullptr);
  }
  for (; offset + 16 <= args.head_dim; offset += 16) {
    weigh_part<kQueries, 1>(args, query, offset, nullptr);
  }
  if (offset == args.head_dim) return;
  for (int j = 0; j < kQueries; ++j) weigh_rest(args, query + j, offset);
}

void weigh(const WeighArgs& args) {
  const auto* next = static_cast<const uint8_t*>(args.next);
  each_query_block(
      args.queries, [&](auto count, int32_t query) __attribute__((always_inline)) {
        weigh_queries<decltype(count)::value>(args, query, query == 0 ? next : nullptr);
      });
}

// total = total exp(total.max - max) + block exp(block.max - max); a total of nothing has max -inf
// and zeros.
void combine(Partial* total, float* total_out, const Partial* block, const float* block_out,
             int32_t head_dim) {
  const float most = total->max > block->max ? total->max : block->max;
  const F32x16 keep = exp_lanes(splat(total->max - most));
  const F32x16 gain = exp_lanes(splat(block->max - most));
  total->sum = __builtin_fmaf(total->sum, first(keep), block->sum * first(gain));
  total->max = most;
  int32_t i = 0;
  for (; i + 16 <= head_dim; i += 16) {
    store(total_out + i, fma(load(total_out + i), keep, mul(load(block_out + i), gain)));
  }
  const int32_t rest = head_dim - i;
  if (rest == 0) return;
  const F32x16 scaled = mul(load_n(block_out + i, rest), gain);
  store_n(total_out + i, fma(load_n(total_out + i, rest), keep, scaled), rest);
}

}  // namespace
}  // namespace forerun
