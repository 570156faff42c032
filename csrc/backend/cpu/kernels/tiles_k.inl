// Q4_K, Q5_K, Q6_K: a unit is a superblock. The scale of a group is multiplied into its codes while
// they are unpacked, (code - zero) * scale = low + 256 * high with low in [0, 255], so that tiles
// of full depth add up the whole superblock: isum = sums of low + 256 * sums of high, the same
// integer as in matmul_k.inl (each below 256 * 127 * 255 < 2^23).
namespace forerun {
namespace {

constexpr int kTilePrefetch = 16;  // superblocks ahead: into the second level, a part at a time

template <typename Codes>
class TileSuperblock {
 public:
  static constexpr int kDepth = 64;
  static constexpr int kSlots = 4;  // of 64 inputs
  static constexpr int kPlane = 16 * 64;
  static constexpr int kPlaneBytes = kSlots * 2 * kPlane;  // [slot][low, high]
  static constexpr int64_t kActivationBytes = sizeof(ActivationK);

  struct Unit {
    const uint8_t* block = nullptr;
    const uint8_t* ahead = nullptr;  // another, to be fetched
    const ActivationK* x = nullptr;  // [rows]
  };

  TileSuperblock(const MatmulArgs& args, int32_t first)
      : args_(args), x_(static_cast<const ActivationK*>(args.activation) + first) {}

  int32_t units() const { return args_.blocks; }
  Unit unit(int32_t panel, int32_t index) const {
    const uint8_t* block = args_.panel + panel * args_.panel_bytes + int64_t{index} * Codes::kBytes;
    return {block, read_later(args_, block, kTilePrefetch * Codes::kBytes),
            x_ + int64_t{index} * args_.rows};
  }

  FORERUN_INLINE void unpack(const Unit& unit, int slot, uint8_t* planes) const {
    prefetch_part<Codes>(unit.ahead, 2 * slot);
    prefetch_part<Codes>(unit.ahead, 2 * slot + 1);
    unpack_part(unit.block, 2 * slot, planes + slot * 2 * kPlane);
    unpack_part(unit.block, 2 * slot + 1, planes + slot * 2 * kPlane + kPlane / 2);
  }

  template <bool kTwo>
  FORERUN_INLINE void multiply(const Unit& unit, int slot, const uint8_t* planes, int32_t start0,
                               int32_t start1) const {
    planes += slot * 2 * kPlane;
    tile_load<6>(planes, 64);
    tile_load<4>(unit.x[start0].code + slot * 64, sizeof(ActivationK));
    tile_dot_unsigned<0, 4, 6>();
    tile_load<7>(planes + kPlane, 64);
    dot_high<1, 4>();
    if constexpr (kTwo) {
      tile_load<5>(unit.x[start1].code + slot * 64, sizeof(ActivationK));
      tile_dot_unsigned<2, 5, 6>();
      dot_high<3, 5>();
    }
  }

  FORERUN_INLINE void read(const Unit& unit, int32_t begin, int32_t end, const int32_t* low,
                           const int32_t* high, float* acc) const {
    const F32x16 d = load_half(unit.block + Codes::kD);
    if constexpr (Codes::kGroup32) {
      const F32x16 dmin = load_half(unit.block + Codes::kDmin);
      B64 mins[4];
      for (int pair = 0; pair < 4; ++pair) {
        mins[pair] = pairs_u8(unit.block + Codes::kMins + pair * 32);
      }
#pragma GCC unroll 4
      for (int32_t row = begin; row < end; ++row, low += 16, high += 16, acc += 16) {
        const ActivationK& x = unit.x[row];
        I32x16 imin = zero_int();
        for (int pair = 0; pair < 4; ++pair) imin = dot_pairs(imin, mins[pair], x.sum32 + 2 * pair);
        const I32x16 isum = join_planes(load_int(low), load_int(high));
        const F32x16 sum = fma(mul(d, splat(x.d)), to_float(isum), load(acc));
        store(acc, fma(mul(dmin, splat(-x.d)), to_float(imin), sum));
      }
    } else {
#pragma GCC unroll 4
      for (int32_t row = begin; row < end; ++row, low += 16, high += 16, acc += 16) {
        const I32x16 isum = join_planes(load_int(low), load_int(high));
        store(acc, fma(mul(d, splat(unit.x[row].d)), to_float(isum), load(acc)));
      }
    }
  }

 private:
  template <int kSum, int kInputs>
  static FORERUN_INLINE void dot_high() {
    if constexpr (Codes::kGroup32) {
      tile_dot_unsigned<kSum, kInputs, 7>();
    } else {
      tile_dot_signed<kSum, kInputs, 7>();
    }
  }

  // 32 inputs: 8 of a tile's 16 vectors.
  static FORERUN_INLINE void unpack_part(const uint8_t* block, int part, uint8_t* low) {
    constexpr int kZero = Codes::kGroup32 ? 0 : 32;
    PlaneScale<kZero> scale[2];
    if constexpr (Codes::kGroup32) {
      scale[0] = scale[1] = PlaneScale<kZero>(widen_u8(block + Codes::kScales + part * 16));
    } else {
      const B64 pairs = pairs_s8(block + Codes::kScales + part * 32);
      scale[0] = PlaneScale<kZero>(pair_low(pairs));
      scale[1] = PlaneScale<kZero>(pair_high(pairs));
    }
    each_step([&](auto step) __attribute__((always_inline)) {
      constexpr int kStep = decltype(step)::value;
      const Planes planes =
          scaled_planes(Codes::template code<kStep>(block, part), scale[kStep / 4]);
      store_bytes(low + kStep * 64, planes.low);
      store_bytes(low + kPlane + kStep * 64, planes.high);
    });
  }

  const MatmulArgs& args_;
  const ActivationK* x_;
};

}  // namespace
}  // namespace forerun
