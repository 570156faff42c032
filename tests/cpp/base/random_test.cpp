#include "base/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <set>

namespace forerun {
namespace {

// Known-answer vectors of Random123 (kat_vectors, philox4x32 10): counter, key -> first word. The
// interface reaches those whose third word is a stream number, so the others are reached by
// casting.
TEST(Philox, GivesThePublishedFirstWords) {
  const auto word = [](uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0,
                       uint32_t k1) {
    const uint64_t position = (uint64_t{c3} << 32) | c0;
    return random_bits((uint64_t{k1} << 32) | k0, static_cast<int64_t>(position),
                       static_cast<int32_t>(c1), static_cast<NoiseStream>(c2));
  };
  EXPECT_EQ(word(0, 0, 0, 0, 0, 0), 0x6627e8d5U);
  EXPECT_EQ(word(0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff),
            0x408f276dU);
  EXPECT_EQ(word(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0),
            0xd16cfe09U);
}

TEST(Noise, DependsOnEveryPartOfItsKey) {
  const uint32_t base = random_bits(1, 2, 3);
  EXPECT_EQ(base, random_bits(1, 2, 3, NoiseStream::kTarget));
  const std::set<uint32_t> all = {base,
                                  random_bits(2, 2, 3),
                                  random_bits(uint64_t{1} << 32 | 1, 2, 3),
                                  random_bits(1, 3, 3),
                                  random_bits(1, int64_t{1} << 32 | 2, 3),
                                  random_bits(1, 2, 4),
                                  random_bits(1, 2, 3, NoiseStream::kDraft),
                                  random_bits(1, 2, 3, NoiseStream::kCoin)};
  EXPECT_EQ(all.size(), 8U);
}

TEST(Noise, IsUniformInTheOpenInterval) {
  constexpr int kDraws = 200000;
  int bins[20] = {};
  for (int i = 0; i < kDraws; ++i) {
    const double u = random_uniform(42, i / 500, i % 500);
    ASSERT_GT(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++bins[static_cast<int>(u * 20)];
  }
  double chi_square = 0.0;
  for (int count : bins) chi_square += std::pow(count - kDraws / 20.0, 2) / (kDraws / 20.0);
  EXPECT_LT(chi_square, 43.8);  // 19 degrees of freedom, p = 0.001
}

TEST(Noise, GumbelHasItsMeanAndVarianceAndBound) {
  constexpr int kDraws = 200000;
  double sum = 0.0;
  double squares = 0.0;
  for (int i = 0; i < kDraws; ++i) {
    const float g = gumbel_noise(7, i, i % 1000);
    ASSERT_TRUE(std::isfinite(g));
    ASSERT_LE(g, kMaxGumbel);
    const double want = -std::log(-std::log(random_uniform(7, i, i % 1000)));
    ASSERT_NEAR(g, want, 1e-6 * (1.0 + std::fabs(want)));
    sum += g;
    squares += double{g} * g;
  }
  const double mean = sum / kDraws;
  EXPECT_NEAR(mean, 0.5772157, 0.012);  // 4 standard errors
  EXPECT_NEAR(squares / kDraws - mean * mean, 3.14159265 * 3.14159265 / 6, 0.04);
}

}  // namespace
}  // namespace forerun
