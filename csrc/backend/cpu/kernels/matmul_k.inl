// Q4_K, Q5_K, Q6_K: inside a superblock everything is an exact int32, the 6- and 8-bit scales
// included (bounds: 256 * 31 * 127 * 63 < 2^26, 256 * 32 * 127 * 128 < 2^27); across superblocks
// one fp32 chain per output:
//   acc = fma(d_w d_a, isum, acc); acc = fma(-(dmin_w d_a), imin, acc)
namespace forerun {
namespace {

constexpr int kPrefetchBlocks = 8;  // superblocks ahead

// Groups of 32, unsigned codes, mins.
template <typename Codes, int kRows>
FORERUN_INLINE void superblock_with_mins(const uint8_t* block, const ActivationK* x,
                                         const uint8_t* ahead, float* acc) {
  GroupDot<Codes::kMaxCode, 8> dot[kRows];
  for (int part = 0; part < 8; ++part) {
    if (ahead != nullptr) prefetch_part<Codes>(ahead, part);
    const GroupScale scale = group_scale(block + Codes::kScales + part * 16);
    each_step([&](auto step) __attribute__((always_inline)) {
      constexpr int kStep = decltype(step)::value;
      const B64 code = Codes::template code<kStep>(block, part);
      for (int i = 0; i < kRows; ++i)
        dot[i].template add<kStep>(code, x[i].code + part * 32 + kStep * 4, scale, 0);
    });
  }
  I32x16 imin[kRows];
  for (int i = 0; i < kRows; ++i) imin[i] = zero_int();
  for (int pair = 0; pair < 4; ++pair) {
    const B64 mins = pairs_u8(block + Codes::kMins + pair * 32);
    for (int i = 0; i < kRows; ++i) imin[i] = dot_pairs(imin[i], mins, x[i].sum32 + 2 * pair);
  }
  const F32x16 d = load_half(block + Codes::kD);
  const F32x16 dmin = load_half(block + Codes::kDmin);
  for (int i = 0; i < kRows; ++i) {
    F32x16 sum = load(acc + i * kPanelRows);
    sum = fma(mul(d, splat(x[i].d)), to_float(dot[i].sum), sum);
    sum = fma(mul(dmin, splat(-x[i].d)), to_float(imin[i]), sum);
    store(acc + i * kPanelRows, sum);
  }
}

// Groups of 16, codes with a zero point of 32.
template <typename Codes, int kRows>
FORERUN_INLINE void superblock_with_zero(const uint8_t* block, const ActivationK* x,
                                         const uint8_t* ahead, float* acc) {
  GroupDot<Codes::kMaxCode, 4> dot[kRows];
  for (int part = 0; part < 8; ++part) {
    if (ahead != nullptr) prefetch_part<Codes>(ahead, part);
    const B64 scales = pairs_s8(block + Codes::kScales + part * 32);
    const GroupScale scale[2] = {group_scale_low(scales), group_scale_high(scales)};
    each_step([&](auto step) __attribute__((always_inline)) {
      constexpr int kStep = decltype(step)::value;
      const B64 code = Codes::template code<kStep>(block, part);
      for (int i = 0; i < kRows; ++i)
        dot[i].template add<kStep>(code, x[i].code + part * 32 + kStep * 4, scale[kStep / 4],
                                   x[i].start16[part * 2 + kStep / 4]);
    });
    const ZeroScales zeros = zero_scales(scales);
    for (int i = 0; i < kRows; ++i)
      dot[i].sum = add_zeros(dot[i].sum, zeros, x[i].sum16 + 2 * part);
  }
  const F32x16 d = load_half(block + Codes::kD);
  for (int i = 0; i < kRows; ++i) {
    const F32x16 sum = fma(mul(d, splat(x[i].d)), to_float(dot[i].sum), load(acc + i * kPanelRows));
    store(acc + i * kPanelRows, sum);
  }
}

template <typename Codes, int kRows>
void superblock(const uint8_t* block, const ActivationK* x, const uint8_t* ahead, float* acc) {
  if constexpr (Codes::kGroup32) {
    superblock_with_mins<Codes, kRows>(block, x, ahead, acc);
  } else {
    superblock_with_zero<Codes, kRows>(block, x, ahead, acc);
  }
}

// The first row block of a superblock asks for the weights of a later one.
template <typename Codes>
FORERUN_INLINE void k_panel(const MatmulArgs& args, int32_t panel) {
  const uint8_t* start = args.panel + panel * args.panel_bytes;
  alignas(64) float acc[kRowTile * kPanelRows];
  const auto* x = static_cast<const ActivationK*>(args.activation);
  for (int32_t first = 0; first < args.rows; first += kRowTile) {
    const int32_t rows = args.rows - first < kRowTile ? args.rows - first : kRowTile;
    for (int32_t i = 0; i < rows; ++i) store(acc + i * kPanelRows, zero());
    for (int32_t b = 0; b < args.blocks; ++b) {
      const uint8_t* block = start + static_cast<int64_t>(b) * Codes::kBytes;
      const uint8_t* ahead = read_later(args, block, kPrefetchBlocks * Codes::kBytes);
      const ActivationK* block_x = x + static_cast<int64_t>(b) * args.rows + first;
      each_row_block(
          rows, [&](auto count, int32_t row) __attribute__((always_inline)) {
            constexpr int kRows = decltype(count)::value;
            superblock<Codes, kRows>(block, block_x + row, first + row == 0 ? ahead : nullptr,
                                     acc + row * kPanelRows);
          });
    }
    store_tile(args, panel, first, rows, acc);
  }
}

template <typename Codes>
void matmul_k(const MatmulArgs& args) {
  for (int32_t panel = 0; panel < args.panels; ++panel) k_panel<Codes>(args, panel);
}

}  // namespace
}  // namespace forerun
