// Codes of one step (4 inputs of 16 outputs) out of the planes of packed.h.
namespace forerun {
namespace {

template <int kValue>
struct Step {
  static constexpr int value = kValue;
};

// Calls body(Step<0>()) .. body(Step<7>()): shift distances must be constants.
template <typename Body>
FORERUN_INLINE void each_step(Body&& body) {
  body(Step<0>());
  body(Step<1>());
  body(Step<2>());
  body(Step<3>());
  body(Step<4>());
  body(Step<5>());
  body(Step<6>());
  body(Step<7>());
}

template <int kStep>
FORERUN_INLINE B64 nibble_code(const uint8_t* nibbles) {
  const B64 both = load_bytes(nibbles + (kStep % 4) * 64);
  if constexpr (kStep < 4) {
    return low_nibbles(both);
  } else {
    return high_nibbles(both);
  }
}

template <int kStep>
FORERUN_INLINE B64 five_bit_code(const uint8_t* nibbles, const uint8_t* bit) {
  return merge_bits<4 - kStep, 0x10>(nibble_code<kStep>(nibbles), load_bytes(bit));
}

template <int kStep>
FORERUN_INLINE B64 six_bit_code(const uint8_t* nibbles, const uint8_t* pair) {
  return merge_bits<4 - 2 * (kStep % 4), 0x30>(nibble_code<kStep>(nibbles),
                                               load_bytes(pair + (kStep / 4) * 64));
}

struct CodesQ4K : PanelQ4K {
  static constexpr int kMaxCode = 15;
  static constexpr bool kGroup32 = true;
  template <int kStep>
  static FORERUN_INLINE B64 code(const uint8_t* block, int part) {
    return nibble_code<kStep>(block + part * 256);
  }
};
struct CodesQ5K : PanelQ5K {
  static constexpr int kMaxCode = 31;
  static constexpr bool kGroup32 = true;
  template <int kStep>
  static FORERUN_INLINE B64 code(const uint8_t* block, int part) {
    return five_bit_code<kStep>(block + part * 256, block + kPlane + part * 64);
  }
};
struct CodesQ6K : PanelQ6K {
  static constexpr int kMaxCode = 63;
  static constexpr bool kGroup32 = false;
  template <int kStep>
  static FORERUN_INLINE B64 code(const uint8_t* block, int part) {
    return six_bit_code<kStep>(block + part * 256, block + kPlane + part * 128);
  }
};

struct CodesQ4 : PanelQ4 {
  static constexpr bool kSigned = false;
  static constexpr int kMaxCode = 15;
  template <int kStep>
  static FORERUN_INLINE B64 code(const uint8_t* codes) {
    return nibble_code<kStep>(codes);
  }
};
struct CodesQ5 : PanelQ5 {
  static constexpr bool kSigned = false;
  static constexpr int kMaxCode = 31;
  template <int kStep>
  static FORERUN_INLINE B64 code(const uint8_t* codes) {
    return five_bit_code<kStep>(codes, codes + 256);
  }
};
struct CodesQ8 : PanelQ8 {
  static constexpr bool kSigned = true;
  template <int kStep>
  static FORERUN_INLINE B64 code(const uint8_t* codes) {
    return load_bytes(codes + kStep * 64);
  }
};

// What this thread reads `distance` bytes after `at`: behind the panels of these arguments it goes
// on at args.next.
FORERUN_INLINE const uint8_t* read_later(const MatmulArgs& args, const uint8_t* at,
                                         int64_t distance) {
  const int64_t left = args.panel + args.panels * args.panel_bytes - at;
  if (distance < left || args.next == nullptr) return at + distance;
  return args.next + (distance - left);
}

// An eighth of a superblock, for the second-level cache.
template <typename Codes>
FORERUN_INLINE void prefetch_part(const uint8_t* block, int part) {
  constexpr int kPart = (Codes::kBytes / 8 + 63) / 64 * 64;
  const uint8_t* begin = block + part * (Codes::kBytes / 8);
  for (int line = 0; line < kPart; line += 64) __builtin_prefetch(begin + line, 0, 2);
}

template <int kMost, typename Body>
FORERUN_INLINE void row_block(int32_t rows, int32_t row, Body&& body) {
  if constexpr (kMost > 1) {
    if (rows != kMost) return row_block<kMost - 1>(rows, row, body);
  }
  body(Step<kMost>(), row);
}

// Rows of a matmul go through in blocks of kRowBlock, what does not fill two of them in halves: 9
// rows as 5 and 4, because a block of one decodes the weights for itself alone.
template <typename Body>
FORERUN_INLINE void each_row_block(int32_t rows, Body&& body) {
  for (int32_t row = 0; row < rows;) {
    const int32_t left = rows - row;
    int32_t count = left < kRowBlock ? left : kRowBlock;
    if (left > kRowBlock && left < 2 * kRowBlock) count = (left + 1) / 2;
    row_block<kRowBlock>(count, row, body);
    row += count;
  }
}

constexpr int32_t kRowTile = 64;  // rows whose sums fit the first-level cache

FORERUN_INLINE void store_tile(const MatmulArgs& args, int32_t panel, int32_t row, int32_t rows,
                               const float* acc) {
  const int32_t first = panel * kPanelRows;
  const int32_t lanes = args.outputs - first < kPanelRows ? args.outputs - first : kPanelRows;
  const F32x16 bias = args.bias != nullptr ? load_n(args.bias + first, lanes) : zero();
  for (int32_t i = 0; i < rows; ++i) {
    F32x16 sum = load(acc + i * kPanelRows);
    if (args.bias != nullptr) sum = add(sum, bias);
    store_n(args.out + (row + i) * args.out_stride + first, sum, lanes);
  }
}

}  // namespace
}  // namespace forerun
