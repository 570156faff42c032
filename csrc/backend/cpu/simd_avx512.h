#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

// Sixteen lanes with AVX-512 (F, BW, DQ, VL, VNNI): one register each. The three simd_*.h, the one
// for 256 bits with dots_avx2.h or dots_avxvnni.h, define the same types and functions with the
// same bits; kernels/*.inl are written once against them. Everything is in an anonymous namespace,
// because a function shared by two instruction sets would be merged by the linker (illegal
// instruction elsewhere).
#define FORERUN_INLINE inline __attribute__((always_inline))

namespace forerun {
namespace {

using F32x16 = __m512;   // fp32 lanes
using I32x16 = __m512i;  // int32 lanes
using B64 = __m512i;     // 64 bytes, 4 (or 2 int16) to a lane

constexpr int kRowBlock = 8;  // rows that share one decoding of a weight vector
// Queries that share one reading of keys or values, and vectors of those at a time: of floats and
// of codes (1 or 2 vectors).
constexpr int kCellQueries = 6, kCellVectors = 4;
constexpr int kCodeQueries = 6, kCodeVectors = 2;

FORERUN_INLINE __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1U << n) - 1); }

FORERUN_INLINE F32x16 zero() { return _mm512_setzero_ps(); }
FORERUN_INLINE F32x16 splat(float x) { return _mm512_set1_ps(x); }
FORERUN_INLINE F32x16 load(const float* p) { return _mm512_loadu_ps(p); }
FORERUN_INLINE F32x16 load_n(const float* p, int n) {
  return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
FORERUN_INLINE void store(float* p, F32x16 x) { _mm512_storeu_ps(p, x); }
FORERUN_INLINE void store_n(float* p, F32x16 x, int n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), x);
}
FORERUN_INLINE F32x16 add(F32x16 a, F32x16 b) { return _mm512_add_ps(a, b); }
FORERUN_INLINE F32x16 sub(F32x16 a, F32x16 b) { return _mm512_sub_ps(a, b); }
FORERUN_INLINE F32x16 mul(F32x16 a, F32x16 b) { return _mm512_mul_ps(a, b); }
FORERUN_INLINE F32x16 div(F32x16 a, F32x16 b) { return _mm512_div_ps(a, b); }
FORERUN_INLINE F32x16 fma(F32x16 a, F32x16 b, F32x16 c) { return _mm512_fmadd_ps(a, b, c); }
// a > b ? a : b and a < b ? a : b: b where one is NaN
FORERUN_INLINE F32x16 max(F32x16 a, F32x16 b) { return _mm512_max_ps(a, b); }
FORERUN_INLINE F32x16 min(F32x16 a, F32x16 b) { return _mm512_min_ps(a, b); }
// x where a >= b or one is NaN, else 0
FORERUN_INLINE F32x16 zero_if_less(F32x16 a, F32x16 b, F32x16 x) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ), x);
}
FORERUN_INLINE uint32_t mask_greater(F32x16 a, F32x16 b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
FORERUN_INLINE float first(F32x16 x) { return _mm512_cvtss_f32(x); }

// Lane i + lane i + 8, then + 4, + 2, + 1: the one order of a horizontal sum.
FORERUN_INLINE float sum_lanes(F32x16 x) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}
FORERUN_INLINE float max_lanes(F32x16 x) {
  const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  const __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

FORERUN_INLINE F32x16 load_half(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
FORERUN_INLINE F32x16 load_half_n(const void* p, int n) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}
FORERUN_INLINE void store_half(void* p, F32x16 x) {
  _mm256_storeu_si256(static_cast<__m256i*>(p),
                      _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
FORERUN_INLINE F32x16 load_bfloat(const void* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

FORERUN_INLINE I32x16 zero_int() { return _mm512_setzero_si512(); }
FORERUN_INLINE I32x16 splat_int(int32_t x) { return _mm512_set1_epi32(x); }
FORERUN_INLINE I32x16 add_int(I32x16 a, I32x16 b) { return _mm512_add_epi32(a, b); }
FORERUN_INLINE I32x16 mul_int(I32x16 a, I32x16 b) { return _mm512_mullo_epi32(a, b); }
FORERUN_INLINE I32x16 max_int(I32x16 a, I32x16 b) { return _mm512_max_epi32(a, b); }
FORERUN_INLINE I32x16 xor_int(I32x16 a, I32x16 b) { return _mm512_xor_si512(a, b); }
FORERUN_INLINE I32x16 lane_numbers() {
  return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
template <int kBits>
FORERUN_INLINE I32x16 shift_right(I32x16 x) {  // unsigned
  return _mm512_srli_epi32(x, kBits);
}
// The 64 bits of unsigned products
struct Product {
  I32x16 high, low;
};
FORERUN_INLINE Product multiply_wide(I32x16 a, uint32_t b) {
  const __m512i factor = _mm512_set1_epi32(static_cast<int32_t>(b));
  const __m512i even = _mm512_mul_epu32(a, factor);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), factor);
  return {_mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd),
          _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32))};
}
FORERUN_INLINE F32x16 to_float(I32x16 x) { return _mm512_cvtepi32_ps(x); }
FORERUN_INLINE I32x16 round_to_int(F32x16 x) {
  return _mm512_cvtps_epi32(x);
}  // nearest even; |x| < 2^22
FORERUN_INLINE I32x16 magnitude_bits(F32x16 x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7FFFFFFF));
}
FORERUN_INLINE int32_t sum_lanes_int(I32x16 x) { return _mm512_reduce_add_epi32(x); }
FORERUN_INLINE int32_t max_lanes_int(I32x16 x) { return _mm512_reduce_max_epi32(x); }
FORERUN_INLINE void store_int8(int8_t* p, I32x16 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x));
}
FORERUN_INLINE void store_int16(int16_t* p, I32x16 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x));
}
// x * 2^n for a whole n in [-126, 128] held as int32, in two exact steps
FORERUN_INLINE F32x16 scale_by_power(F32x16 x, I32x16 n) {
  const __m512i half = _mm512_srai_epi32(n, 1);
  const __m512i bias = _mm512_set1_epi32(127);
  const __m512i first = _mm512_slli_epi32(_mm512_add_epi32(half, bias), 23);
  const __m512i second = _mm512_slli_epi32(_mm512_add_epi32(_mm512_sub_epi32(n, half), bias), 23);
  return _mm512_mul_ps(_mm512_mul_ps(x, _mm512_castsi512_ps(first)), _mm512_castsi512_ps(second));
}
// 2^n, n in [-126, 127]; anything for other n
FORERUN_INLINE F32x16 power_of_two(I32x16 n) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}

// 16 bytes as lanes; 32 bytes as int16 pairs; lane i of two rows as a pair; one of a pair as lanes
FORERUN_INLINE I32x16 widen_u8(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
FORERUN_INLINE B64 pairs_u8(const uint8_t* p) {
  return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
FORERUN_INLINE B64 pairs_s8(const uint8_t* p) {
  return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
FORERUN_INLINE B64 pair_rows(const int8_t* low, const int8_t* high) {
  const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(low));
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(high));
  return _mm512_cvtepi8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b)));
}
FORERUN_INLINE I32x16 pair_low(B64 pairs) {
  return _mm512_srai_epi32(_mm512_slli_epi32(pairs, 16), 16);
}
FORERUN_INLINE I32x16 pair_high(B64 pairs) { return _mm512_srai_epi32(pairs, 16); }

FORERUN_INLINE B64 load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
FORERUN_INLINE B64 low_nibbles(B64 x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
FORERUN_INLINE B64 high_nibbles(B64 x) {
  return _mm512_and_si512(_mm512_srli_epi16(x, 4), _mm512_set1_epi8(15));
}
// code | (plane << kLeft, or >> -kLeft) & mask, per byte
template <int kLeft, int kMask>
FORERUN_INLINE B64 merge_bits(B64 code, B64 plane) {
  if constexpr (kLeft > 0) plane = _mm512_slli_epi16(plane, kLeft);
  if constexpr (kLeft < 0) plane = _mm512_srli_epi16(plane, -kLeft);
  return _mm512_ternarylogic_epi32(code, plane, _mm512_set1_epi8(kMask), 0xF8);  // a | (b & c)
}

FORERUN_INLINE I32x16 splat_four(const void* p) {
  int32_t four;
  std::memcpy(&four, p, sizeof(four));
  return _mm512_set1_epi32(four);
}
// acc + sum of 4 products in each lane: unsigned codes up to 63 (or u8 of dot_signed) times signed
// in [-127, 127]
FORERUN_INLINE I32x16 dot_unsigned(I32x16 acc, B64 code, const int8_t* four) {
  return _mm512_dpbusd_epi32(acc, code, splat_four(four));
}
// The same for signed codes -128..127. The chain starts from signed_start(-128 * sum of the
// activations it will see).
FORERUN_INLINE I32x16 signed_start(int32_t start128) { return _mm512_set1_epi32(start128); }
FORERUN_INLINE I32x16 dot_signed(I32x16 acc, B64 code, const int8_t* four) {
  return _mm512_dpbusd_epi32(acc, _mm512_xor_si512(code, _mm512_set1_epi8(-128)), splat_four(four));
}
FORERUN_INLINE I32x16 dot_pairs(I32x16 acc, B64 pairs, const int16_t* two) {
  return _mm512_dpwssd_epi32(acc, pairs, splat_four(two));
}

// For the kernels on tiles, which need AVX-512.
FORERUN_INLINE I32x16 load_int(const int32_t* p) { return _mm512_loadu_si512(p); }
FORERUN_INLINE void store_bytes(uint8_t* p, B64 x) { _mm512_storeu_si512(p, x); }
FORERUN_INLINE B64 sub_bytes(B64 x, int8_t y) { return _mm512_sub_epi8(x, _mm512_set1_epi8(y)); }

// (code - kZero) * scale = low + 256 * high, per byte: low unsigned, high with the product's sign.
struct Planes {
  B64 low, high;
};
template <int kZero>
struct PlaneScale {
  B64 even, odd;  // the scale beside the even and the odd bytes of a lane, zero beside the others
  B64 offset;     // kZero * scale in int16
  PlaneScale() = default;
  explicit FORERUN_INLINE PlaneScale(I32x16 scale) {
    const __m512i byte = _mm512_and_si512(scale, _mm512_set1_epi32(0xFF));
    even = _mm512_or_si512(byte, _mm512_slli_epi32(byte, 16));
    odd = _mm512_slli_epi16(even, 8);
    if constexpr (kZero != 0) {
      const __m512i word = _mm512_and_si512(scale, _mm512_set1_epi32(0xFFFF));
      offset = _mm512_mullo_epi16(_mm512_or_si512(word, _mm512_slli_epi32(scale, 16)),
                                  _mm512_set1_epi16(kZero));
    }
  }
};
template <int kZero>
FORERUN_INLINE Planes scaled_planes(B64 code, const PlaneScale<kZero>& scale) {
  __m512i even = _mm512_maddubs_epi16(code, scale.even);
  __m512i odd = _mm512_maddubs_epi16(code, scale.odd);
  if constexpr (kZero != 0) {
    even = _mm512_sub_epi16(even, scale.offset);
    odd = _mm512_sub_epi16(odd, scale.offset);
  }
  const __m512i low_byte = _mm512_set1_epi16(0xFF);
  return {_mm512_ternarylogic_epi32(even, _mm512_slli_epi16(odd, 8), low_byte, 0xEC),   // a&c | b
          _mm512_ternarylogic_epi32(_mm512_srli_epi16(even, 8), odd, low_byte, 0xF4)};  // a | b&~c
}
FORERUN_INLINE I32x16 join_planes(I32x16 low, I32x16 high) {
  return _mm512_add_epi32(low, _mm512_slli_epi32(high, 8));
}

}  // namespace
}  // namespace forerun

#include "backend/cpu/kernels/dots.inl"
