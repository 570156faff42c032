#include "backend/vocabulary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu_fixture.h"
#include "base/random.h"

namespace forerun {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class Vocabulary : public testing::TestWithParam<std::string> {
 protected:
  static const VocabularyKernels& of(const std::string& isa) {
    const test::ForcedIsa forced(isa.c_str());
    return vocabulary_kernels();
  }
  const VocabularyKernels& kernels_ = of(GetParam());
};

std::vector<float> row(size_t count, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) {
    logit = normal(random);
    if (random() % 50 == 0) logit = std::nanf("");
    if (random() % 50 == 0) logit = -kInfinity;
    if (random() % 10 == 0) logit = std::round(logit);  // ties, zeros of both signs
  }
  return logits;
}

TEST_P(Vocabulary, LargestIsTheFirstOfTheMaximum) {
  for (size_t count = 1; count < 80; ++count) {
    for (uint32_t seed = 0; seed < 10; ++seed) {
      const std::vector<float> x = row(count, 1.0F, seed);
      size_t expected = 0;
      float most = -kInfinity;
      for (size_t i = 0; i < count; ++i) {
        if (x[i] > most) most = x[i], expected = i;
      }
      EXPECT_EQ(kernels_.largest(x.data(), static_cast<int64_t>(count)),
                static_cast<int64_t>(expected));
    }
  }
  const std::vector<float> none(40, std::nanf("")), forbidden(40, -kInfinity);
  EXPECT_EQ(kernels_.largest(none.data(), 40), 0);
  EXPECT_EQ(kernels_.largest(forbidden.data(), 40), 0);
  std::vector<float> infinite(40, 1.0F);
  infinite[23] = infinite[31] = kInfinity;
  EXPECT_EQ(kernels_.largest(infinite.data(), 40), 23);
}

// Gumbel noise from the definition, with the C library's logarithm.
double noise(const NoiseScan& scan, int64_t token) {
  const uint32_t bits = random_bits(scan.seed, scan.position, static_cast<int32_t>(token));
  return -std::log(-std::log((bits + 0.5) / 4294967296.0));
}

TEST_P(Vocabulary, NoTokenThatReachesTheScoreIsPassedOverAndFewOthersStop) {
  int stops = 0, winners = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    const std::vector<float> logits = row(700 + seed, 0.2F + 0.1F * static_cast<float>(seed), seed);
    NoiseScan scan;
    scan.logits = logits.data();
    scan.count = static_cast<int64_t>(logits.size());
    scan.best = logits[static_cast<size_t>(kernels_.largest(logits.data(), scan.count))];
    scan.temperature = 0.3F + 0.05F * static_cast<float>(seed % 20);
    scan.least_scaled = seed % 3 == 0 ? -2.0F : -kInfinity;
    scan.seed = 0x9E3779B97F4A7C15U * (seed + 1);
    scan.position = seed % 2 == 0 ? seed : int64_t{seed} << 33;
    const float score = 0.5F + 0.05F * static_cast<float>(seed);
    const float least = seed % 4 == 0 ? std::round(scan.best) - 1.0F : -kInfinity;
    const int64_t begin = seed % 7, end = scan.count - seed % 5;
    int64_t stop = kernels_.find_contender(scan, begin, end, least, score);
    for (int64_t token = begin; token < end; ++token) {
      const float logit = logits[static_cast<size_t>(token)];
      const float scaled = (logit - scan.best) / scan.temperature;
      const bool takes_part = logit >= least && scaled >= scan.least_scaled && scaled > -kInfinity;
      const bool reaches = takes_part && scaled + noise(scan, token) >= score;
      winners += reaches ? 1 : 0;
      ASSERT_TRUE(!reaches || token == stop) << seed << " " << token;
      if (token < stop) continue;
      ASSERT_TRUE(takes_part) << seed << " " << token;
      ++stops;
      stop = kernels_.find_contender(scan, token + 1, end, least, score);
    }
    EXPECT_EQ(stop, end);
  }
  EXPECT_GT(winners, 100);
  EXPECT_LT(stops, winners * 3 / 2);
}

TEST_P(Vocabulary, MassIsTheSumOfExponentialsAndTheSameOnEveryInstructionSet) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    const std::vector<float> logits = row(1 + seed * 97, 1.0F + static_cast<float>(seed), seed);
    NoiseScan scan;
    scan.logits = logits.data();
    scan.count = static_cast<int64_t>(logits.size());
    scan.best = logits[static_cast<size_t>(kernels_.largest(logits.data(), scan.count))];
    if (!std::isfinite(scan.best)) continue;
    scan.temperature = 0.5F + 0.1F * static_cast<float>(seed);
    const float least = std::round(scan.best - scan.temperature);
    const int64_t begin = seed % 3 < scan.count ? seed % 3 : 0;
    double total = 0.0, above = 0.0;
    for (int64_t i = begin; i < scan.count; ++i) {
      const float logit = logits[static_cast<size_t>(i)];
      if (std::isnan(logit)) continue;
      const double weight = std::exp((double{logit} - scan.best) / scan.temperature);
      total += weight;
      if (logit >= least) above += weight;
    }
    const Mass mass = kernels_.mass(scan, begin, scan.count, least);
    EXPECT_NEAR(mass.total, total, 2e-6 * total);
    EXPECT_NEAR(mass.above, above, 2e-6 * total);
    const Mass plain = of("scalar").mass(scan, begin, scan.count, least);
    EXPECT_EQ(std::memcmp(&mass, &plain, sizeof(mass)), 0) << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, Vocabulary, testing::ValuesIn(test::instruction_sets()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace forerun
