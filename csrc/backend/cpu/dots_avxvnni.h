#pragma once

#include "backend/cpu/simd_avx2.h"

// Dot products of four bytes in registers of 256 bits: AVX-VNNI, which processors without AVX-512
// have. Where the compiler is told of AVX-512 instead (the tests), the same in its encoding.
namespace forerun {
namespace {

constexpr int kRowBlock = 4;

FORERUN_INLINE __m256i four_products(__m256i acc, __m256i code, __m256i x) {
#ifdef __AVXVNNI__
  return _mm256_dpbusd_avx_epi32(acc, code, x);
#else
  return _mm256_dpbusd_epi32(acc, code, x);
#endif
}
FORERUN_INLINE __m256i two_products(__m256i acc, __m256i pairs, __m256i x) {
#ifdef __AVXVNNI__
  return _mm256_dpwssd_avx_epi32(acc, pairs, x);
#else
  return _mm256_dpwssd_epi32(acc, pairs, x);
#endif
}

FORERUN_INLINE I32x16 dot_unsigned(I32x16 acc, B64 code, const int8_t* four) {
  const __m256i x = splat_four(four);
  return {four_products(acc.a, code.a, x), four_products(acc.b, code.b, x)};
}
FORERUN_INLINE I32x16 signed_start(int32_t start128) { return splat_int(start128); }
FORERUN_INLINE I32x16 dot_signed(I32x16 acc, B64 code, const int8_t* four) {
  const __m256i flip = _mm256_set1_epi8(-128);
  return dot_unsigned(acc, {_mm256_xor_si256(code.a, flip), _mm256_xor_si256(code.b, flip)}, four);
}
FORERUN_INLINE I32x16 dot_pairs(I32x16 acc, B64 pairs, const int16_t* two) {
  const __m256i x = splat_four(two);
  return {two_products(acc.a, pairs.a, x), two_products(acc.b, pairs.b, x)};
}

}  // namespace
}  // namespace forerun

#include "backend/cpu/kernels/dots.inl"
