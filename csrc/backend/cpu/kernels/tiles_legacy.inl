// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: a unit is two blocks of 32, a plane the codes of one of them, less
// the zero point and so signed. Every block is read out, because each has its own scale.
namespace forerun {
namespace {

template <typename Codes, int kZeroPoint, bool kMin>
class TileBlocks {
 public:
  static constexpr int kDepth = 32;
  static constexpr int kSlots = 1;
  static constexpr int kPlane = 8 * 64;
  static constexpr int kPlaneBytes = 2 * kPlane;
  static constexpr int64_t kActivationBytes = sizeof(Activation32);

  struct Unit {
    const uint8_t* codes = nullptr;
    const uint8_t* scales = nullptr;
    const uint8_t* ahead = nullptr;   // as much of the weights, to be fetched
    const Activation32* x = nullptr;  // [2][rows]
    bool two = false;                 // the last unit may have one block
  };

  TileBlocks(const MatmulArgs& args, int32_t first)
      : args_(args), x_(static_cast<const Activation32*>(args.activation) + first) {}

  int32_t units() const { return (args_.blocks + 1) / 2; }
  Unit unit(int32_t panel, int32_t index) const {
    const uint8_t* codes = args_.panel + panel * args_.panel_bytes;
    const uint8_t* scales = codes + int64_t{args_.blocks} * Codes::kCodes;
    const int64_t block = int64_t{2} * index;
    return {codes + block * Codes::kCodes, scales + block * kScales,
            read_later(args_, codes + block * (Codes::kCodes + kScales), kAhead),
            x_ + block * args_.rows, block + 1 < args_.blocks};
  }

  FORERUN_INLINE void unpack(const Unit& unit, int, uint8_t* planes) const {
    for (int line = 0; line < 2 * (Codes::kCodes + kScales); line += 64) {
      __builtin_prefetch(unit.ahead + line, 0, 2);
    }
    if constexpr (Codes::kSigned) return;  // multiplied where they lie
    unpack_block(unit.codes, planes);
    if (unit.two) unpack_block(unit.codes + Codes::kCodes, planes + kPlane);
  }

  template <bool kTwo>
  FORERUN_INLINE void multiply(const Unit& unit, int, const uint8_t* planes, int32_t start0,
                               int32_t start1) const {
    const uint8_t* weights = Codes::kSigned ? unit.codes : planes;
    tile_load<6>(weights, 64);
    block_products<kTwo, 0, 6>(unit.x + start0, unit.x + start1);
    if (!unit.two) return;
    tile_load<7>(weights + kPlane, 64);
    block_products<kTwo, 1, 7>(unit.x + args_.rows + start0, unit.x + args_.rows + start1);
  }

  FORERUN_INLINE void read(const Unit& unit, int32_t begin, int32_t end, const int32_t* even,
                           const int32_t* odd, float* acc) const {
    const Block first(unit.scales);
    const Block second(unit.two ? unit.scales + kScales : unit.scales);
#pragma GCC unroll 2
    for (int32_t row = begin; row < end; ++row, even += 16, odd += 16, acc += 16) {
      F32x16 sum = first.add_to(load(acc), load_int(even), unit.x[row]);
      if (unit.two) sum = second.add_to(sum, load_int(odd), unit.x[args_.rows + row]);
      store(acc, sum);
    }
  }

 private:
  static constexpr int kScales = kMin ? 2 * kHalfRow : kHalfRow;
  static constexpr int kAhead = 16384;  // bytes

  struct Block {
    F32x16 d, m;
    explicit FORERUN_INLINE Block(const uint8_t* scales) : d(load_half(scales)), m(zero()) {
      if constexpr (kMin) m = load_half(scales + kHalfRow);
    }
    FORERUN_INLINE F32x16 add_to(F32x16 sum, I32x16 isum, const Activation32& x) const {
      sum = fma(mul(d, splat(x.d)), to_float(isum), sum);
      if constexpr (kMin) sum = fma(m, splat(x.d_sum), sum);
      return sum;
    }
  };

  template <bool kTwo, int kPlaneIndex, int kWeights>
  static FORERUN_INLINE void block_products(const Activation32* x0, const Activation32* x1) {
    tile_load<4>(x0->code, sizeof(Activation32));
    tile_dot_signed<kPlaneIndex, 4, kWeights>();
    if constexpr (kTwo) {
      tile_load<5>(x1->code, sizeof(Activation32));
      tile_dot_signed<2 + kPlaneIndex, 5, kWeights>();
    }
  }

  static FORERUN_INLINE void unpack_block(const uint8_t* codes, uint8_t* plane) {
    each_step([&](auto step) __attribute__((always_inline)) {
      constexpr int kStep = decltype(step)::value;
      const B64 code = Codes::template code<kStep>(codes);
      store_bytes(plane + kStep * 64, kZeroPoint == 0 ? code : sub_bytes(code, kZeroPoint));
    });
  }

  const MatmulArgs& args_;
  const Activation32* x_;
};

}  // namespace
}  // namespace forerun
