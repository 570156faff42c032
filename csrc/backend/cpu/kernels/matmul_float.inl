// F32, F16, BF16 weights times fp32 activations: one fma chain per output over the inputs in order.
namespace forerun {
namespace {

struct CodesF32 {
  static constexpr int kBytes = 64;
  static FORERUN_INLINE F32x16 weights(const uint8_t* p) {
    return load(reinterpret_cast<const float*>(p));
  }
};
struct CodesF16 {
  static constexpr int kBytes = 32;
  static FORERUN_INLINE F32x16 weights(const uint8_t* p) { return load_half(p); }
};
struct CodesBF16 {
  static constexpr int kBytes = 32;
  static FORERUN_INLINE F32x16 weights(const uint8_t* p) { return load_bfloat(p); }
};

constexpr int32_t kFloatRun = 64;  // inputs that a row block goes through at a time
constexpr int kFloatPrefetch = 8192;

template <typename Codes, int kRows>
void float_run(const uint8_t* weights, int32_t inputs, const float* x, int64_t stride,
               const uint8_t* ahead, float* acc) {
  F32x16 sum[kRows];
  for (int i = 0; i < kRows; ++i) sum[i] = load(acc + i * kPanelRows);
  for (int32_t k = 0; k < inputs; ++k) {
    if (ahead != nullptr) __builtin_prefetch(ahead + k * Codes::kBytes, 0, 2);
    const F32x16 w = Codes::weights(weights);
    for (int i = 0; i < kRows; ++i) sum[i] = fma(w, splat(x[i * stride + k]), sum[i]);
    weights += Codes::kBytes;
  }
  for (int i = 0; i < kRows; ++i) store(acc + i * kPanelRows, sum[i]);
}

template <typename Codes>
FORERUN_INLINE void float_panel(const MatmulArgs& args, int32_t panel) {
  const uint8_t* start = args.panel + panel * args.panel_bytes;
  alignas(64) float acc[kRowTile * kPanelRows];
  const auto* x = static_cast<const float*>(args.activation);
  const int64_t stride = args.activation_stride;
  for (int32_t first = 0; first < args.rows; first += kRowTile) {
    const int32_t rows = args.rows - first < kRowTile ? args.rows - first : kRowTile;
    for (int32_t i = 0; i < rows; ++i) store(acc + i * kPanelRows, zero());
    for (int32_t k = 0; k < args.blocks; k += kFloatRun) {
      const int32_t run = args.blocks - k < kFloatRun ? args.blocks - k : kFloatRun;
      const uint8_t* weights = start + static_cast<int64_t>(k) * Codes::kBytes;
      const uint8_t* ahead = read_later(args, weights, kFloatPrefetch);
      each_row_block(
          rows, [&](auto count, int32_t row) __attribute__((always_inline)) {
            constexpr int kRows = decltype(count)::value;
            const float* run_x = x + (first + row) * stride + k;
            float* row_acc = acc + row * kPanelRows;
            float_run<Codes, kRows>(weights, run, run_x, stride, first + row == 0 ? ahead : nullptr,
                                    row_acc);
          });
    }
    store_tile(args, panel, first, rows, acc);
  }
}

template <typename Codes>
void matmul_float(const MatmulArgs& args) {
  for (int32_t panel = 0; panel < args.panels; ++panel) float_panel<Codes>(args, panel);
}

}  // namespace
}  // namespace forerun
