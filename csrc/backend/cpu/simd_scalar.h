#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

// Sixteen lanes as plain arrays: the meaning of the operations, and the kernels of a machine
// without AVX2. The fused multiply-add is the C library's where the machine has none. See
// simd_avx512.h.
#define FORERUN_INLINE inline __attribute__((always_inline))

namespace forerun {
namespace {

struct F32x16 {
  float v[16];
};
struct I32x16 {
  int32_t v[16];
};
struct B64 {
  uint8_t v[64];
};

constexpr int kRowBlock = 2;
constexpr int kCellQueries = 1, kCellVectors = 1;
constexpr int kCodeQueries = 1, kCodeVectors = 1;

template <typename To, typename From>
FORERUN_INLINE To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}
template <typename Result, typename Function>
FORERUN_INLINE Result each_lane(Function function) {
  Result result;
  for (int i = 0; i < 16; ++i) result.v[i] = function(i);
  return result;
}
template <typename Function>
FORERUN_INLINE F32x16 lanes(Function function) {
  return each_lane<F32x16>(function);
}
template <typename Function>
FORERUN_INLINE I32x16 int_lanes(Function function) {
  return each_lane<I32x16>(function);
}

FORERUN_INLINE F32x16 splat(float x) {
  return lanes([=](int) { return x; });
}
FORERUN_INLINE F32x16 zero() { return splat(0.0F); }
FORERUN_INLINE F32x16 load(const float* p) {
  F32x16 x;
  std::memcpy(x.v, p, sizeof(x.v));
  return x;
}
FORERUN_INLINE F32x16 load_n(const float* p, int n) {
  F32x16 x = zero();
  std::memcpy(x.v, p, sizeof(float) * static_cast<size_t>(n));
  return x;
}
FORERUN_INLINE void store(float* p, const F32x16& x) { std::memcpy(p, x.v, sizeof(x.v)); }
FORERUN_INLINE void store_n(float* p, const F32x16& x, int n) {
  std::memcpy(p, x.v, sizeof(float) * static_cast<size_t>(n));
}
FORERUN_INLINE F32x16 add(const F32x16& a, const F32x16& b) {
  return lanes([&](int i) { return a.v[i] + b.v[i]; });
}
FORERUN_INLINE F32x16 sub(const F32x16& a, const F32x16& b) {
  return lanes([&](int i) { return a.v[i] - b.v[i]; });
}
FORERUN_INLINE F32x16 mul(const F32x16& a, const F32x16& b) {
  return lanes([&](int i) { return a.v[i] * b.v[i]; });
}
FORERUN_INLINE F32x16 div(const F32x16& a, const F32x16& b) {
  return lanes([&](int i) { return a.v[i] / b.v[i]; });
}
FORERUN_INLINE F32x16 fma(const F32x16& a, const F32x16& b, const F32x16& c) {
  return lanes([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}
FORERUN_INLINE F32x16 max(const F32x16& a, const F32x16& b) {
  return lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
FORERUN_INLINE F32x16 min(const F32x16& a, const F32x16& b) {
  return lanes([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
FORERUN_INLINE F32x16 zero_if_less(const F32x16& a, const F32x16& b, const F32x16& x) {
  return lanes([&](int i) { return a.v[i] < b.v[i] ? 0.0F : x.v[i]; });
}
FORERUN_INLINE uint32_t mask_greater(const F32x16& a, const F32x16& b) {
  uint32_t mask = 0;
  for (int i = 0; i < 16; ++i) mask |= static_cast<uint32_t>(a.v[i] > b.v[i]) << i;
  return mask;
}
FORERUN_INLINE float first(const F32x16& x) { return x.v[0]; }

FORERUN_INLINE float sum_lanes(F32x16 x) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) x.v[i] += x.v[i + width];
  }
  return x.v[0];
}
FORERUN_INLINE float max_lanes(F32x16 x) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) x.v[i] = x.v[i] > x.v[i + width] ? x.v[i] : x.v[i + width];
  }
  return x.v[0];
}

FORERUN_INLINE float half_value(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t magnitude = half & 0x7FFF;
  if (magnitude >= 0x7C00) {
    const uint32_t quiet = magnitude > 0x7C00 ? 0x400000 : 0;
    return bits_as<float>(sign | 0x7F800000 | (magnitude << 13) | quiet);
  }
  if (magnitude < 0x400) {  // subnormal: a whole multiple of 2^-24
    const float value = static_cast<float>(magnitude) * 0x1p-24F;
    return bits_as<float>(sign | bits_as<uint32_t>(value));
  }
  return bits_as<float>(sign | ((magnitude << 13) + 0x38000000));
}
FORERUN_INLINE uint16_t half_bits(float value) {
  const uint32_t bits = bits_as<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000)
    return static_cast<uint16_t>(sign | 0x7E00 | ((magnitude >> 13) & 0x3FF));
  if (magnitude >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);  // rounds above 65504
  if (magnitude < 0x38800000) {  // below 2^-14: adding 0.5 aligns the last place to 2^-24
    const float aligned = bits_as<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (bits_as<uint32_t>(aligned) - 0x3F000000));
  }
  const uint32_t odd = (magnitude >> 13) & 1;
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000 + 0xFFF + odd) >> 13));
}
FORERUN_INLINE F32x16 load_half_n(const void* p, int n) {
  uint16_t half[16] = {};
  std::memcpy(half, p, sizeof(uint16_t) * static_cast<size_t>(n));
  return lanes([&](int i) { return half_value(half[i]); });
}
FORERUN_INLINE F32x16 load_half(const void* p) { return load_half_n(p, 16); }
FORERUN_INLINE void store_half(void* p, const F32x16& x) {
  uint16_t half[16];
  for (int i = 0; i < 16; ++i) half[i] = half_bits(x.v[i]);
  std::memcpy(p, half, sizeof(half));
}
FORERUN_INLINE F32x16 load_bfloat(const void* p) {
  uint16_t word[16];
  std::memcpy(word, p, sizeof(word));
  return lanes([&](int i) { return bits_as<float>(static_cast<uint32_t>(word[i]) << 16); });
}

FORERUN_INLINE I32x16 splat_int(int32_t x) {
  return int_lanes([=](int) { return x; });
}
FORERUN_INLINE I32x16 zero_int() { return splat_int(0); }
FORERUN_INLINE I32x16 add_int(const I32x16& a, const I32x16& b) {
  return int_lanes([&](int i) { return a.v[i] + b.v[i]; });
}
FORERUN_INLINE I32x16 mul_int(const I32x16& a, const I32x16& b) {
  return int_lanes([&](int i) { return a.v[i] * b.v[i]; });
}
FORERUN_INLINE I32x16 max_int(const I32x16& a, const I32x16& b) {
  return int_lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
FORERUN_INLINE I32x16 xor_int(const I32x16& a, const I32x16& b) {
  return int_lanes([&](int i) { return a.v[i] ^ b.v[i]; });
}
FORERUN_INLINE I32x16 lane_numbers() {
  return int_lanes([](int i) { return i; });
}
template <int kBits>
FORERUN_INLINE I32x16 shift_right(const I32x16& x) {
  return int_lanes(
      [&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(x.v[i]) >> kBits); });
}
struct Product {
  I32x16 high, low;
};
FORERUN_INLINE Product multiply_wide(const I32x16& a, uint32_t b) {
  Product product;
  for (int i = 0; i < 16; ++i) {
    const uint64_t wide = uint64_t{static_cast<uint32_t>(a.v[i])} * b;
    product.high.v[i] = static_cast<int32_t>(wide >> 32);
    product.low.v[i] = static_cast<int32_t>(static_cast<uint32_t>(wide));
  }
  return product;
}
FORERUN_INLINE F32x16 to_float(const I32x16& x) {
  return lanes([&](int i) { return static_cast<float>(x.v[i]); });
}
// Adding 1.5 * 2^23 rounds to an integer, to nearest even, and leaves it in the low bits.
FORERUN_INLINE I32x16 round_to_int(const F32x16& x) {
  return int_lanes([&](int i) {
    return static_cast<int32_t>(bits_as<uint32_t>(x.v[i] + 12582912.0F) - 0x4B400000U);
  });
}
FORERUN_INLINE I32x16 magnitude_bits(const F32x16& x) {
  return int_lanes([&](int i) { return bits_as<int32_t>(x.v[i]) & 0x7FFFFFFF; });
}
FORERUN_INLINE int32_t sum_lanes_int(const I32x16& x) {
  int32_t sum = 0;
  for (int32_t value : x.v) sum += value;
  return sum;
}
FORERUN_INLINE int32_t max_lanes_int(const I32x16& x) {
  int32_t most = x.v[0];
  for (int32_t value : x.v) most = value > most ? value : most;
  return most;
}
FORERUN_INLINE void store_int8(int8_t* p, const I32x16& x) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(x.v[i]);
}
FORERUN_INLINE void store_int16(int16_t* p, const I32x16& x) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int16_t>(x.v[i]);
}
FORERUN_INLINE F32x16 scale_by_power(const F32x16& x, const I32x16& n) {
  return lanes([&](int i) {
    const int32_t half = n.v[i] >> 1;
    const uint32_t first = static_cast<uint32_t>(half + 127) << 23;
    const uint32_t second = static_cast<uint32_t>(n.v[i] - half + 127) << 23;
    return x.v[i] * bits_as<float>(first) * bits_as<float>(second);
  });
}
FORERUN_INLINE F32x16 power_of_two(const I32x16& n) {
  return lanes([&](int i) { return bits_as<float>((static_cast<uint32_t>(n.v[i]) + 127) << 23); });
}

FORERUN_INLINE I32x16 widen_u8(const uint8_t* p) {
  return int_lanes([=](int i) { return static_cast<int32_t>(p[i]); });
}
template <typename Byte>
FORERUN_INLINE B64 pairs_of(const uint8_t* p) {
  B64 x;
  for (int i = 0; i < 32; ++i) {
    const auto wide = static_cast<int16_t>(static_cast<Byte>(p[i]));
    std::memcpy(x.v + 2 * i, &wide, sizeof(wide));
  }
  return x;
}
FORERUN_INLINE B64 pairs_u8(const uint8_t* p) { return pairs_of<uint8_t>(p); }
FORERUN_INLINE B64 pairs_s8(const uint8_t* p) { return pairs_of<int8_t>(p); }
FORERUN_INLINE B64 pair_rows(const int8_t* low, const int8_t* high) {
  B64 x;
  for (int i = 0; i < 16; ++i) {
    const int16_t pair[2] = {low[i], high[i]};
    std::memcpy(x.v + 4 * i, pair, sizeof(pair));
  }
  return x;
}
FORERUN_INLINE int32_t pair_value(const B64& pairs, int index) {
  int16_t value;
  std::memcpy(&value, pairs.v + 2 * index, sizeof(value));
  return value;
}
FORERUN_INLINE I32x16 pair_low(const B64& pairs) {
  return int_lanes([&](int i) { return pair_value(pairs, 2 * i); });
}
FORERUN_INLINE I32x16 pair_high(const B64& pairs) {
  return int_lanes([&](int i) { return pair_value(pairs, 2 * i + 1); });
}

FORERUN_INLINE B64 load_bytes(const uint8_t* p) {
  B64 x;
  std::memcpy(x.v, p, sizeof(x.v));
  return x;
}
FORERUN_INLINE B64 low_nibbles(const B64& x) {
  B64 low;
  for (int i = 0; i < 64; ++i) low.v[i] = x.v[i] & 15;
  return low;
}
FORERUN_INLINE B64 high_nibbles(const B64& x) {
  B64 high;
  for (int i = 0; i < 64; ++i) high.v[i] = x.v[i] >> 4;
  return high;
}
template <int kLeft, int kMask>
FORERUN_INLINE B64 merge_bits(const B64& code, const B64& plane) {
  B64 merged;
  for (int i = 0; i < 64; ++i) {
    const int shifted = kLeft >= 0 ? plane.v[i] << (kLeft >= 0 ? kLeft : 0)
                                   : plane.v[i] >> (kLeft < 0 ? -kLeft : 0);
    merged.v[i] = static_cast<uint8_t>(code.v[i] | (shifted & kMask));
  }
  return merged;
}

FORERUN_INLINE I32x16 dot_unsigned(const I32x16& acc, const B64& code, const int8_t* four) {
  return int_lanes([&](int i) {
    int32_t sum = acc.v[i];
    for (int j = 0; j < 4; ++j) sum += code.v[4 * i + j] * four[j];
    return sum;
  });
}
FORERUN_INLINE I32x16 signed_start(int32_t) { return zero_int(); }
FORERUN_INLINE I32x16 dot_signed(const I32x16& acc, const B64& code, const int8_t* four) {
  return int_lanes([&](int i) {
    int32_t sum = acc.v[i];
    for (int j = 0; j < 4; ++j) sum += static_cast<int8_t>(code.v[4 * i + j]) * four[j];
    return sum;
  });
}
FORERUN_INLINE I32x16 dot_pairs(const I32x16& acc, const B64& pairs, const int16_t* two) {
  return int_lanes([&](int i) {
    return acc.v[i] + pair_value(pairs, 2 * i) * two[0] + pair_value(pairs, 2 * i + 1) * two[1];
  });
}

}  // namespace
}  // namespace forerun

#include "backend/cpu/kernels/dots.inl"
