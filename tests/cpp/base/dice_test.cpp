#include "base/dice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace forerun {
namespace {

constexpr int64_t kThrows = 40000;

StepDice dice_of(uint64_t seed, int64_t position = 1) {
  return {seed, position, NoiseStream::kCoin, NoiseStream::kResidual};
}

TEST(StepDice, CoinsAndPicksHaveTheirProbabilities) {
  int64_t heads = 0;
  std::vector<int64_t> picked(4);
  const std::vector<double> weights = {0.5, 0.0, 1.5, 2.0};
  for (uint64_t seed = 0; seed < kThrows; ++seed) {
    StepDice dice = dice_of(seed);
    heads += dice.accept(0.06, 0.2) ? 1 : 0;
    ++picked[dice.pick(weights)];
  }
  const double spread = 4.0 * std::sqrt(0.25 / kThrows);
  EXPECT_NEAR(static_cast<double>(heads) / kThrows, 0.3, spread);
  EXPECT_EQ(picked[1], 0);
  for (size_t i = 0; i < weights.size(); ++i) {
    EXPECT_NEAR(static_cast<double>(picked[i]) / kThrows, weights[i] / 4.0, spread);
  }
}

TEST(StepDice, NeverAcceptsProbabilityZeroAndAlwaysWhatIsAtLeastQ) {
  StepDice dice = dice_of(3);
  for (int i = 0; i < 10000; ++i) {
    ASSERT_FALSE(dice.accept(0.0, 0.5));
    ASSERT_FALSE(dice.accept(-1e-18, 0.5));
    ASSERT_FALSE(dice.accept(0.0, 0.0));
    ASSERT_TRUE(dice.accept(0.5, 0.5));
    const double u = dice.uniform();
    ASSERT_GT(u, 0.0);
    ASSERT_LE(u, 1.0);
    ASSERT_EQ(dice.pick(std::vector<double>{0.0, -1.0, 1e-300}), 2U);
  }
}

TEST(StepDice, EveryThrowStepSeedAndStreamHasNoiseOfItsOwn) {
  std::set<double> seen;
  for (const uint64_t seed : {1U, 2U}) {
    for (const int64_t position : {5, 6}) {
      for (const NoiseStream stream :
           {NoiseStream::kDraft, NoiseStream::kCoin, NoiseStream::kResidual}) {
        StepDice dice(seed, position, stream, stream), again(seed, position, stream, stream);
        for (int i = 0; i < 10; ++i) {
          const double u = dice.uniform();
          EXPECT_EQ(u, again.uniform());
          EXPECT_TRUE(seen.insert(u).second);
        }
      }
    }
  }
}

}  // namespace
}  // namespace forerun
