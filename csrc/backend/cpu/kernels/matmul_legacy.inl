// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: an exact int32 inside a block of 32, then one fp32 chain per
// output:
//   acc = fma(d_w d_a, isum, acc), and for *_1 types acc = fma(m_w, d_a sum, acc) with the sum of the
//   activation's codes
namespace forerun {
namespace {

// Codes, whether they are signed, whether the type has a minimum, and its zero point.
template <typename Plane, bool kWithMin, int kZeroPoint>
struct Legacy : Plane {
  static constexpr bool kMin = kWithMin;
  static_assert(kZeroPoint == 0 || kZeroPoint == 8 || kZeroPoint == 16);
  static FORERUN_INLINE I32x16 start(const Activation32& x) {
    if constexpr (Plane::kSigned) return signed_start(x.start128);
    if constexpr (kZeroPoint == 0) return zero_int();
    return splat_int(kZeroPoint == 8 ? x.start8 : x.start16);
  }
};
using CodesQ4_0 = Legacy<CodesQ4, false, 8>;
using CodesQ4_1 = Legacy<CodesQ4, true, 0>;
using CodesQ5_0 = Legacy<CodesQ5, false, 16>;
using CodesQ5_1 = Legacy<CodesQ5, true, 0>;
using CodesQ8_0 = Legacy<CodesQ8, false, 0>;

// Sum of the products of a block.
template <typename Codes>
struct BlockDot : PlainDot<Codes::kMaxCode> {};
template <>
struct BlockDot<CodesQ8_0> : SignedDot {};

constexpr int32_t kLegacyRun = 8;      // blocks that a row block goes through at a time
constexpr int kLegacyPrefetch = 8192;  // bytes ahead

// `blocks` blocks for kRows rows; x is [block][all_rows]. ahead: as many bytes to be fetched, or
// nullptr.
template <typename Codes, int kRows>
void legacy_run(const uint8_t* codes, const uint8_t* scales, int32_t blocks, const Activation32* x,
                int32_t all_rows, const uint8_t* ahead, float* acc) {
  constexpr int kScales = Codes::kMin ? 2 * kHalfRow : kHalfRow;
  F32x16 sum[kRows];
  for (int i = 0; i < kRows; ++i) sum[i] = load(acc + i * kPanelRows);
  for (int32_t b = 0; b < blocks; ++b) {
    if (ahead != nullptr) {
      for (int line = 0; line < Codes::kCodes + kScales; line += 64)
        __builtin_prefetch(ahead + line, 0, 2);
      ahead += Codes::kCodes + kScales;
    }
    BlockDot<Codes> dot[kRows];
    for (int i = 0; i < kRows; ++i) dot[i].sum = Codes::start(x[i]);
    each_step([&](auto step) __attribute__((always_inline)) {
      constexpr int kStep = decltype(step)::value;
      const B64 code = Codes::template code<kStep>(codes);
      for (int i = 0; i < kRows; ++i) dot[i].template add<kStep>(code, x[i].code + kStep * 4);
    });
    const F32x16 d = load_half(scales);
    for (int i = 0; i < kRows; ++i)
      sum[i] = fma(mul(d, splat(x[i].d)), to_float(dot[i].sum), sum[i]);
    if constexpr (Codes::kMin) {
      const F32x16 m = load_half(scales + kHalfRow);
      for (int i = 0; i < kRows; ++i) sum[i] = fma(m, splat(x[i].d_sum), sum[i]);
    }
    codes += Codes::kCodes;
    scales += kScales;
    x += all_rows;
  }
  for (int i = 0; i < kRows; ++i) store(acc + i * kPanelRows, sum[i]);
}

template <typename Codes>
FORERUN_INLINE void legacy_panel(const MatmulArgs& args, int32_t panel) {
  const uint8_t* start = args.panel + panel * args.panel_bytes;
  constexpr int kScales = Codes::kMin ? 2 * kHalfRow : kHalfRow;
  alignas(64) float acc[kRowTile * kPanelRows];
  const auto* x = static_cast<const Activation32*>(args.activation);
  const uint8_t* all_scales = start + static_cast<int64_t>(args.blocks) * Codes::kCodes;
  for (int32_t first = 0; first < args.rows; first += kRowTile) {
    const int32_t rows = args.rows - first < kRowTile ? args.rows - first : kRowTile;
    for (int32_t i = 0; i < rows; ++i) store(acc + i * kPanelRows, zero());
    for (int32_t b = 0; b < args.blocks; b += kLegacyRun) {
      const int32_t run = args.blocks - b < kLegacyRun ? args.blocks - b : kLegacyRun;
      const uint8_t* codes = start + static_cast<int64_t>(b) * Codes::kCodes;
      const uint8_t* scales = all_scales + static_cast<int64_t>(b) * kScales;
      const uint8_t* ahead = read_later(
          args, start + static_cast<int64_t>(b) * (Codes::kCodes + kScales), kLegacyPrefetch);
      const Activation32* run_x = x + static_cast<int64_t>(b) * args.rows + first;
      each_row_block(
          rows, [&](auto count, int32_t row) __attribute__((always_inline)) {
            constexpr int kRows = decltype(count)::value;
            legacy_run<Codes, kRows>(codes, scales, run, run_x + row, args.rows,
                                     first + row == 0 ? ahead : nullptr, acc + row * kPanelRows);
          });
    }
    store_tile(args, panel, first, rows, acc);
  }
}

template <typename Codes>
void matmul_legacy(const MatmulArgs& args) {
  for (int32_t panel = 0; panel < args.panels; ++panel) legacy_panel<Codes>(args, panel);
}

}  // namespace
}  // namespace forerun
