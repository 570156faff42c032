// Dot products of the codes of a block, for instruction sets with a dot product of four bytes (AVX2
// has none, and its own of these, dots_avx2.h); included by simd_*.h or dots_*.h.
namespace forerun {
namespace {

using GroupScale = I32x16;
FORERUN_INLINE GroupScale group_scale(const uint8_t* p) { return widen_u8(p); }
FORERUN_INLINE GroupScale group_scale_low(B64 pairs) { return pair_low(pairs); }
FORERUN_INLINE GroupScale group_scale_high(B64 pairs) { return pair_high(pairs); }

// Sum over groups of scale * (start + products of unsigned codes up to kMaxCode); kSteps steps to a
// group.
template <int kMaxCode, int kSteps>
struct GroupDot {
  I32x16 sum = zero_int();
  I32x16 group;
  template <int kStep>
  FORERUN_INLINE void add(B64 code, const int8_t* four, GroupScale scale, int32_t start) {
    if constexpr (kStep % kSteps == 0) group = splat_int(start);
    group = dot_unsigned(group, code, four);
    if constexpr (kStep % kSteps == kSteps - 1) sum = add_int(sum, mul_int(group, scale));
  }
};
// For instruction sets whose groups have no start; nothing here.
struct ZeroScales {};
FORERUN_INLINE ZeroScales zero_scales(B64) { return {}; }
FORERUN_INLINE I32x16 add_zeros(I32x16 sum, ZeroScales, const int16_t*) { return sum; }

// Sum of the products of the 8 steps of a block.
template <int kMaxCode>
struct PlainDot {
  I32x16 sum;
  template <int kStep>
  FORERUN_INLINE void add(B64 code, const int8_t* four) {
    sum = dot_unsigned(sum, code, four);
  }
};
struct SignedDot {
  I32x16 sum;
  template <int kStep>
  FORERUN_INLINE void add(B64 code, const int8_t* four) {
    sum = dot_signed(sum, code, four);
  }
};

}  // namespace
}  // namespace forerun
