#pragma once

#include <cstdint>
#include <cstring>

#include "base/host_device.h"
#include "base/random.h"

// The arithmetic of base/math.h and base/random.h as functions of the host and of a GPU's kernels:
// IEEE operations in a fixed order, compiled without fused multiply-adds on both, so that both give
// the same bits.
namespace forerun::exact {

FORERUN_HD uint64_t bits_of(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}
FORERUN_HD double double_of(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}
FORERUN_HD double power_of_two(int64_t n) {
  return double_of(static_cast<uint64_t>(n + 1023) << 52);
}

constexpr double kLn2High = 0x1.62e42fee00000p-1;  // 32 bits, so that n * kLn2High is exact
constexpr double kLn2Low = 0x1.a39ef35793c76p-33;

// x = n ln2 + r with |r| <= ln2 / 2; Taylor to degree 13 (truncation below 2e-17) in Horner's form.
FORERUN_HD double exp(double x) {
  constexpr double kInvLn2 = 0x1.71547652b82fep+0;
  constexpr double kRound = 0x1.8p+52;  // adding it rounds to an integer, to nearest even
  if (x != x) return x;
  if (x < -708.0) return 0.0;
  if (x > 709.78) return double_of(0x7FF0000000000000ULL);
  const double n = (x * kInvLn2 + kRound) - kRound;
  const double r = (x - n * kLn2High) - n * kLn2Low;
  constexpr double kInverseFactorial[14] = {1.0,
                                            1.0,
                                            1.0 / 2,
                                            1.0 / 6,
                                            1.0 / 24,
                                            1.0 / 120,
                                            1.0 / 720,
                                            1.0 / 5040,
                                            1.0 / 40320,
                                            1.0 / 362880,
                                            1.0 / 3628800,
                                            1.0 / 39916800,
                                            1.0 / 479001600,
                                            1.0 / 6227020800};
  double p = kInverseFactorial[13];
  for (int i = 12; i >= 0; --i) p = p * r + kInverseFactorial[i];
  const auto exponent = static_cast<int64_t>(n);
  const int64_t half = exponent / 2;
  return p * power_of_two(half) * power_of_two(exponent - half);
}

// x = 2^e m with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| <=
// 0.1716: odd powers up to 21 (truncation below 1e-18).
FORERUN_HD double log(double x) {
  if (x != x || x < 0) return double_of(0x7FF8000000000000ULL);
  if (x == 0) return double_of(0xFFF0000000000000ULL);
  if (x == double_of(0x7FF0000000000000ULL)) return x;
  int64_t exponent = 0;
  if (x < 0x1p-1022) {  // subnormal
    x *= 0x1p54;
    exponent = -54;
  }
  const uint64_t bits = bits_of(x);
  exponent += static_cast<int64_t>(bits >> 52) - 1023;
  double m = double_of((bits & 0xFFFFFFFFFFFFFULL) | 0x3FF0000000000000ULL);
  if (m > 0x1.6a09e667f3bcdp+0) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1.0) / (m + 1.0);
  const double s2 = s * s;
  double tail = 1.0 / 21;
  for (int odd = 19; odd >= 3; odd -= 2) tail = tail * s2 + 1.0 / odd;
  const double log_m = 2.0 * s + 2.0 * s * (s2 * tail);
  const auto e = static_cast<double>(exponent);
  return e * kLn2High + (log_m + e * kLn2Low);
}

struct Words {
  uint32_t at[4];
};

// Philox4x32-10: ten rounds of two 32x32 -> 64 multiplications; the key grows by the golden ratio
// and sqrt(3) - 1.
FORERUN_HD Words philox(Words counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter.at[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter.at[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.at[1] ^ key0,
                static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.at[3] ^ key1,
                static_cast<uint32_t>(product0)}};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

// A position has 64 bits in the interface; its high half takes the counter's last word, 0 for any
// real text.
FORERUN_HD Words random_words(uint64_t seed, int64_t position, int32_t token, NoiseStream stream) {
  const auto where = static_cast<uint64_t>(position);
  return philox({{static_cast<uint32_t>(where), static_cast<uint32_t>(token),
                  static_cast<uint32_t>(stream), static_cast<uint32_t>(where >> 32)}},
                static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

FORERUN_HD double uniform(uint32_t bits) { return (bits + 0.5) * 0x1p-32; }

// Standard Gumbel noise of 32 random bits.
FORERUN_HD float gumbel(uint32_t bits) {
  const auto noise = static_cast<float>(-log(-log(uniform(bits))));
  return noise < kMaxGumbel ? noise : kMaxGumbel;
}

// At least the noise of these bits. 1 - u lies in [2^-(n+1), 2^-n] for n leading ones of the bits,
// and G = -log(-log u) <= -log(1 - u) <= (n + 1) log 2.
FORERUN_HD float gumbel_bound(uint32_t bits) {
  constexpr float kLog2 = 0.69314724F;  // rounded up: log 2 = 0.693147181
  int ones = 0;
  for (; (bits & 0x80000000U) != 0; bits <<= 1) ++ones;
  return static_cast<float>(ones + 1) * kLog2 + 1e-5F;
}

}  // namespace forerun::exact
