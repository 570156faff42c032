#pragma once

#include <cstring>

#include "cuda_runtime.h"

struct __half {
  unsigned short bits;
};
struct alignas(4) __half2 {
  __half x, y;
};

inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline float __half2float(__half half) {
  _Float16 value;
  std::memcpy(&value, &half, sizeof(value));
  return static_cast<float>(value);
}
inline __half __float2half_rn(float value) {
  const auto rounded = static_cast<_Float16>(value);
  __half half;
  std::memcpy(&half, &rounded, sizeof(half));
  return half;
}
inline unsigned short __half_as_ushort(__half half) { return half.bits; }
inline float2 __half22float2(__half2 pair) { return {__half2float(pair.x), __half2float(pair.y)}; }
