#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

// Sixteen lanes with AVX2, FMA and F16C: two registers each. See simd_avx512.h. Dot products of
// bytes are in dots_avx2.h and dots_avxvnni.h.
#define FORERUN_INLINE inline __attribute__((always_inline))

namespace forerun {
namespace {

struct F32x16 {
  __m256 a, b;
};
struct I32x16 {
  __m256i a, b;
};
using B64 = I32x16;

constexpr int kCellQueries = 6, kCellVectors = 1;
constexpr int kCodeQueries = 4, kCodeVectors = 1;

FORERUN_INLINE F32x16 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
FORERUN_INLINE F32x16 splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
FORERUN_INLINE F32x16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
FORERUN_INLINE void store(float* p, F32x16 x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
FORERUN_INLINE F32x16 load_n(const float* p, int n) {
  float whole[16] = {};
  std::memcpy(whole, p, sizeof(float) * static_cast<size_t>(n));
  return load(whole);
}
FORERUN_INLINE void store_n(float* p, F32x16 x, int n) {
  float whole[16];
  store(whole, x);
  std::memcpy(p, whole, sizeof(float) * static_cast<size_t>(n));
}
FORERUN_INLINE F32x16 add(F32x16 x, F32x16 y) {
  return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
FORERUN_INLINE F32x16 sub(F32x16 x, F32x16 y) {
  return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
FORERUN_INLINE F32x16 mul(F32x16 x, F32x16 y) {
  return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
FORERUN_INLINE F32x16 div(F32x16 x, F32x16 y) {
  return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
FORERUN_INLINE F32x16 fma(F32x16 x, F32x16 y, F32x16 z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
FORERUN_INLINE F32x16 max(F32x16 x, F32x16 y) {
  return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}
FORERUN_INLINE F32x16 min(F32x16 x, F32x16 y) {
  return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}
FORERUN_INLINE F32x16 zero_if_less(F32x16 x, F32x16 y, F32x16 z) {
  return {_mm256_and_ps(_mm256_cmp_ps(x.a, y.a, _CMP_NLT_UQ), z.a),
          _mm256_and_ps(_mm256_cmp_ps(x.b, y.b, _CMP_NLT_UQ), z.b)};
}
FORERUN_INLINE uint32_t mask_greater(F32x16 x, F32x16 y) {
  const auto low = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ)));
  const auto high = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ)));
  return low | (high << 8);
}
FORERUN_INLINE float first(F32x16 x) { return _mm256_cvtss_f32(x.a); }

FORERUN_INLINE float sum_lanes(F32x16 x) {
  const __m256 half = _mm256_add_ps(x.a, x.b);
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}
FORERUN_INLINE float max_lanes(F32x16 x) {
  const __m256 half = _mm256_max_ps(x.a, x.b);
  const __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

FORERUN_INLINE F32x16 load_half(const void* p) {
  const auto* words = static_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(words)), _mm256_cvtph_ps(_mm_loadu_si128(words + 1))};
}
FORERUN_INLINE F32x16 load_half_n(const void* p, int n) {
  uint16_t whole[16] = {};
  std::memcpy(whole, p, sizeof(uint16_t) * static_cast<size_t>(n));
  return load_half(whole);
}
FORERUN_INLINE void store_half(void* p, F32x16 x) {
  auto* words = static_cast<__m128i*>(p);
  _mm_storeu_si128(words, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  _mm_storeu_si128(words + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
FORERUN_INLINE F32x16 load_bfloat(const void* p) {
  const auto* words = static_cast<const __m128i*>(p);
  const __m256i low = _mm256_cvtepu16_epi32(_mm_loadu_si128(words));
  const __m256i high = _mm256_cvtepu16_epi32(_mm_loadu_si128(words + 1));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))};
}

FORERUN_INLINE I32x16 zero_int() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
FORERUN_INLINE I32x16 splat_int(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
FORERUN_INLINE I32x16 add_int(I32x16 x, I32x16 y) {
  return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
FORERUN_INLINE I32x16 mul_int(I32x16 x, I32x16 y) {
  return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)};
}
FORERUN_INLINE I32x16 max_int(I32x16 x, I32x16 y) {
  return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)};
}
FORERUN_INLINE I32x16 xor_int(I32x16 x, I32x16 y) {
  return {_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)};
}
FORERUN_INLINE I32x16 lane_numbers() {
  return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
          _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
}
template <int kBits>
FORERUN_INLINE I32x16 shift_right(I32x16 x) {
  return {_mm256_srli_epi32(x.a, kBits), _mm256_srli_epi32(x.b, kBits)};
}
struct Product {
  I32x16 high, low;
};
FORERUN_INLINE void multiply_half(__m256i x, __m256i factor, __m256i& high, __m256i& low) {
  const __m256i even = _mm256_mul_epu32(x, factor);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), factor);
  high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
  low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
}
FORERUN_INLINE Product multiply_wide(I32x16 x, uint32_t y) {
  const __m256i factor = _mm256_set1_epi32(static_cast<int32_t>(y));
  Product product;
  multiply_half(x.a, factor, product.high.a, product.low.a);
  multiply_half(x.b, factor, product.high.b, product.low.b);
  return product;
}
FORERUN_INLINE F32x16 to_float(I32x16 x) {
  return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
}
FORERUN_INLINE I32x16 round_to_int(F32x16 x) {
  return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)};
}
FORERUN_INLINE I32x16 magnitude_bits(F32x16 x) {
  const __m256i mask = _mm256_set1_epi32(0x7FFFFFFF);
  return {_mm256_and_si256(_mm256_castps_si256(x.a), mask),
          _mm256_and_si256(_mm256_castps_si256(x.b), mask)};
}
FORERUN_INLINE int32_t sum_lanes_int(I32x16 x) {
  const __m256i half = _mm256_add_epi32(x.a, x.b);
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1)));
}
FORERUN_INLINE int32_t max_lanes_int(I32x16 x) {
  const __m256i half = _mm256_max_epi32(x.a, x.b);
  __m128i most = _mm_max_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4E));
  return _mm_cvtsi128_si32(_mm_max_epi32(most, _mm_shuffle_epi32(most, 0xB1)));
}
FORERUN_INLINE void store_int8(int8_t* p, I32x16 x) {
  const __m128i low =
      _mm_packs_epi32(_mm256_castsi256_si128(x.a), _mm256_extracti128_si256(x.a, 1));
  const __m128i high =
      _mm_packs_epi32(_mm256_castsi256_si128(x.b), _mm256_extracti128_si256(x.b, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(low, high));
}
FORERUN_INLINE void store_int16(int16_t* p, I32x16 x) {
  const __m256i pairs = _mm256_packs_epi32(x.a, x.b);  // quarters 0, 2, 1, 3
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(pairs, 0xD8));
}
FORERUN_INLINE __m256 scale_half_by_power(__m256 x, __m256i n) {
  const __m256i half = _mm256_srai_epi32(n, 1);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias), 23);
  return _mm256_mul_ps(_mm256_mul_ps(x, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}
FORERUN_INLINE F32x16 scale_by_power(F32x16 x, I32x16 n) {
  return {scale_half_by_power(x.a, n.a), scale_half_by_power(x.b, n.b)};
}
FORERUN_INLINE __m256 half_power_of_two(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
FORERUN_INLINE F32x16 power_of_two(I32x16 n) {
  return {half_power_of_two(n.a), half_power_of_two(n.b)};
}

FORERUN_INLINE I32x16 widen_u8(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}
FORERUN_INLINE B64 pairs_u8(const uint8_t* p) {
  const auto* bytes = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtepu8_epi16(_mm_loadu_si128(bytes)),
          _mm256_cvtepu8_epi16(_mm_loadu_si128(bytes + 1))};
}
FORERUN_INLINE B64 pairs_s8(const uint8_t* p) {
  const auto* bytes = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtepi8_epi16(_mm_loadu_si128(bytes)),
          _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes + 1))};
}
FORERUN_INLINE B64 pair_rows(const int8_t* low, const int8_t* high) {
  const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(low));
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(high));
  return {_mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b)),
          _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(a, b))};
}
FORERUN_INLINE I32x16 pair_low(B64 x) {
  return {_mm256_srai_epi32(_mm256_slli_epi32(x.a, 16), 16),
          _mm256_srai_epi32(_mm256_slli_epi32(x.b, 16), 16)};
}
FORERUN_INLINE I32x16 pair_high(B64 x) {
  return {_mm256_srai_epi32(x.a, 16), _mm256_srai_epi32(x.b, 16)};
}

FORERUN_INLINE B64 load_bytes(const uint8_t* p) {
  const auto* bytes = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(bytes), _mm256_loadu_si256(bytes + 1)};
}
FORERUN_INLINE B64 low_nibbles(B64 x) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(x.a, mask), _mm256_and_si256(x.b, mask)};
}
FORERUN_INLINE B64 high_nibbles(B64 x) {
  return low_nibbles({_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)});
}
template <int kLeft, int kMask>
FORERUN_INLINE B64 merge_bits(B64 code, B64 plane) {
  if constexpr (kLeft > 0)
    plane = {_mm256_slli_epi16(plane.a, kLeft), _mm256_slli_epi16(plane.b, kLeft)};
  if constexpr (kLeft < 0)
    plane = {_mm256_srli_epi16(plane.a, -kLeft), _mm256_srli_epi16(plane.b, -kLeft)};
  const __m256i mask = _mm256_set1_epi8(kMask);
  return {_mm256_or_si256(code.a, _mm256_and_si256(plane.a, mask)),
          _mm256_or_si256(code.b, _mm256_and_si256(plane.b, mask))};
}

FORERUN_INLINE __m256i splat_four(const void* p) {
  int32_t four;
  std::memcpy(&four, p, sizeof(four));
  return _mm256_set1_epi32(four);
}

}  // namespace
}  // namespace forerun
