#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/host_device.h"

namespace forerun::cuda {

// Element-wise arithmetic of the kernels: IEEE operations and explicit fma only, compiled with
// -fmad=false, so that the device gives the bits that the CPU tests see.

FORERUN_HD uint32_t float_bits(float value) {
  uint32_t bits = 0;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

FORERUN_HD float bits_float(uint32_t bits) {
  float value = 0.0F;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// e^x: x = n ln 2 + r, |r| <= ln(2) / 2, polynomial of Cephes expf. Relative error below 2e-7; 0
// below -87.3 (no subnormal results), +inf above 88.7, NaN stays NaN.
FORERUN_HD float exp_f32(float x) {
  if (x < -87.3F) return 0.0F;
  if (x > 88.7F) return bits_float(0x7F800000U);
  if (!(x == x)) return x;
  const float n = rintf(x * 1.44269504F);
  float r = fmaf(n, -0.693359375F, x);
  r = fmaf(n, 2.12194440e-4F, r);
  float p = 1.9875691500e-4F;
  p = fmaf(p, r, 1.3981999507e-3F);
  p = fmaf(p, r, 8.3334519073e-3F);
  p = fmaf(p, r, 4.1665795894e-2F);
  p = fmaf(p, r, 1.6666665459e-1F);
  p = fmaf(p, r, 5.0000001201e-1F);
  const float y = fmaf(r * r, p, r) + 1.0F;
  const auto exponent = static_cast<int32_t>(n);  // -126..128; 2^128 is taken as 2 * 2^127
  const int32_t half = exponent / 2;
  const float low = bits_float(static_cast<uint32_t>(half + 127) << 23);
  const float high = bits_float(static_cast<uint32_t>(exponent - half + 127) << 23);
  return y * low * high;
}

// e^x for x <= 0 with the bits of the CPU's vectors (exp_to_one in backend/cpu/kernels): another
// reduction and Taylor's coefficients; 0 below -87.
FORERUN_HD float exp_to_one(float x) {
  if (x < -87.0F) return 0.0F;
  const float n = rintf(x * 1.44269504F);
  const float r = fmaf(n, -1.42860677e-6F, fmaf(n, -0.693145752F, x));
  float p = 1.0F / 5040.0F;
  p = fmaf(p, r, 1.0F / 720.0F);
  p = fmaf(p, r, 1.0F / 120.0F);
  p = fmaf(p, r, 1.0F / 24.0F);
  p = fmaf(p, r, 1.0F / 6.0F);
  p = fmaf(p, r, 0.5F);
  p = fmaf(p, r, 1.0F);
  p = fmaf(p, r, 1.0F);
  return p * bits_float(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
}

FORERUN_HD float silu(float x) { return x / (1.0F + exp_f32(-x)); }

struct Pair {
  float first, second;
};

FORERUN_HD Pair rotate(float first, float second, float cosine, float sine) {
  return {fmaf(first, cosine, -(second * sine)), fmaf(second, cosine, first * sine)};
}

// int8 quantisation of an activation block: d = amax / 127, code = round to even of x * (127 /
// amax). The magnitudes are compared as bits, so that infinity and NaN come above every number: d
// is then NaN and the codes are 0. A block with amax < 1e-30 counts as zero.
struct BlockScale {
  float d, inverse;
};
FORERUN_HD uint32_t magnitude_bits(float x) { return float_bits(x) & 0x7FFFFFFFU; }
FORERUN_HD BlockScale block_scale(uint32_t magnitude) {
  if (magnitude >= 0x7F800000U) return {bits_float(0x7FC00000U), 0.0F};
  const float amax = bits_float(magnitude);
  if (amax < 1e-30F) return {0.0F, 0.0F};
  return {amax / 127.0F, 127.0F / amax};
}
FORERUN_HD int32_t quantize(float x, float inverse) {
  return inverse == 0.0F ? 0 : static_cast<int32_t>(rintf(x * inverse));
}

// Orders values descending and ties by ascending id: a larger key comes first. NaN counts as -inf,
// -0 as 0.
FORERUN_HD uint64_t top_k_key(float value, uint32_t id) {
  if (!(value == value)) value = bits_float(0xFF800000U);
  uint32_t bits = float_bits(value);
  bits = value == 0.0F ? 0x80000000U : (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return static_cast<uint64_t>(bits) << 32 | (0xFFFFFFFFU - id);
}
FORERUN_HD uint32_t top_k_id(uint64_t key) { return 0xFFFFFFFFU - static_cast<uint32_t>(key); }
FORERUN_HD float top_k_value(uint64_t key) {
  const auto bits = static_cast<uint32_t>(key >> 32);
  return bits_float((bits & 0x80000000U) != 0 ? bits & 0x7FFFFFFFU : ~bits);
}

}  // namespace forerun::cuda
