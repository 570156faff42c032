#pragma once

#include "backend/cpu/simd_avx2.h"

// Dot products of bytes with AVX2, which multiplies bytes into pairs of 16 bits; what simd_avx512.h
// and kernels/dots.inl have with an instruction for four.
namespace forerun {
namespace {

constexpr int kRowBlock = 4;

FORERUN_INLINE I32x16 signed_start(int32_t) { return zero_int(); }
// |code| times the activation with code's sign: at most 2 * 128 * 127 < 32768; |-128| is 128 as an
// unsigned byte.
FORERUN_INLINE I32x16 dot_signed(I32x16 acc, B64 code, const int8_t* four) {
  const __m256i x = splat_four(four);
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i low = _mm256_maddubs_epi16(_mm256_abs_epi8(code.a), _mm256_sign_epi8(x, code.a));
  const __m256i high = _mm256_maddubs_epi16(_mm256_abs_epi8(code.b), _mm256_sign_epi8(x, code.b));
  return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(low, ones)),
          _mm256_add_epi32(acc.b, _mm256_madd_epi16(high, ones))};
}
FORERUN_INLINE I32x16 dot_pairs(I32x16 acc, B64 pairs, const int16_t* two) {
  const __m256i x = splat_four(two);
  return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(pairs.a, x)),
          _mm256_add_epi32(acc.b, _mm256_madd_epi16(pairs.b, x))};
}

// Products of a few steps stay in int16 pairs, as many as cannot overflow: two products of a code
// up to kMaxCode with 127 to a step. The scale then comes with the sum of the pairs, in one
// multiply-add.
template <int kMaxCode>
constexpr int kStepsInPairs = 32767 / (2 * 127 * kMaxCode) >= 8   ? 8
                              : 32767 / (2 * 127 * kMaxCode) >= 4 ? 4
                                                                  : 2;
FORERUN_INLINE B64 pair_products(B64 code, const int8_t* four) {
  const __m256i x = splat_four(four);
  return {_mm256_maddubs_epi16(code.a, x), _mm256_maddubs_epi16(code.b, x)};
}
// The barrier makes each product join the sum at once: in the order that the compiler would choose,
// all products of a group wait on the stack.
FORERUN_INLINE B64 add_pairs(B64 x, B64 y) {
  B64 sum = {_mm256_add_epi16(x.a, y.a), _mm256_add_epi16(x.b, y.b)};
  __asm__("" : "+x"(sum.a), "+x"(sum.b));
  return sum;
}
FORERUN_INLINE I32x16 add_scaled(I32x16 sum, B64 pairs, B64 scale) {
  return {_mm256_add_epi32(sum.a, _mm256_madd_epi16(pairs.a, scale.a)),
          _mm256_add_epi32(sum.b, _mm256_madd_epi16(pairs.b, scale.b))};
}

using GroupScale = B64;  // twice in each lane
FORERUN_INLINE __m256i low_twice(__m256i x) {
  return _mm256_or_si256(_mm256_and_si256(x, _mm256_set1_epi32(0xFFFF)), _mm256_slli_epi32(x, 16));
}
FORERUN_INLINE __m256i high_twice(__m256i x) {
  return _mm256_blend_epi16(_mm256_srli_epi32(x, 16), x, 0xAA);
}
FORERUN_INLINE GroupScale group_scale(const uint8_t* p) {
  const I32x16 wide = widen_u8(p);
  return {low_twice(wide.a), low_twice(wide.b)};
}
FORERUN_INLINE GroupScale group_scale_low(B64 pairs) {
  return {low_twice(pairs.a), low_twice(pairs.b)};
}
FORERUN_INLINE GroupScale group_scale_high(B64 pairs) {
  return {high_twice(pairs.a), high_twice(pairs.b)};
}

// Sum over groups of scale * products of unsigned codes up to kMaxCode; kSteps steps to a group.
// The zero point comes apart, by add_zeros.
template <int kMaxCode, int kSteps>
struct GroupDot {
  static constexpr int kRun = kStepsInPairs<kMaxCode> < kSteps ? kStepsInPairs<kMaxCode> : kSteps;
  I32x16 sum = zero_int();
  B64 pairs;
  template <int kStep>
  FORERUN_INLINE void add(B64 code, const int8_t* four, GroupScale scale, int32_t) {
    const B64 products = pair_products(code, four);
    pairs = kStep % kRun == 0 ? products : add_pairs(pairs, products);
    if constexpr (kStep % kRun == kRun - 1) sum = add_scaled(sum, pairs, scale);
  }
};
// -32 * scale of two groups, times the sums of their activations
using ZeroScales = B64;
FORERUN_INLINE ZeroScales zero_scales(B64 pairs) {
  const __m256i zero = _mm256_set1_epi16(-32);
  return {_mm256_mullo_epi16(pairs.a, zero), _mm256_mullo_epi16(pairs.b, zero)};
}
FORERUN_INLINE I32x16 add_zeros(I32x16 sum, ZeroScales zeros, const int16_t* two) {
  return dot_pairs(sum, zeros, two);
}

// Sum of the products of the 8 steps of a block.
template <int kMaxCode>
struct PlainDot {
  static constexpr int kRun = kStepsInPairs<kMaxCode>;
  I32x16 sum;
  B64 pairs;
  template <int kStep>
  FORERUN_INLINE void add(B64 code, const int8_t* four) {
    const __m256i ones = _mm256_set1_epi16(1);
    const B64 products = pair_products(code, four);
    pairs = kStep % kRun == 0 ? products : add_pairs(pairs, products);
    if constexpr (kStep % kRun == kRun - 1) sum = add_scaled(sum, pairs, {ones, ones});
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
