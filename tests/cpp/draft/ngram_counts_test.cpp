#include "draft/ngram_counts.h"

#include <gtest/gtest.h>

#include <cmath>

namespace forerun {
namespace {

double moved(const NgramCounts& counts, std::vector<int32_t> context, int32_t token, double p,
             double weight) {
  std::vector<double> logprob = {std::log(p)};
  counts.interpolate(context, std::vector<int32_t>{token}, weight, logprob);
  return logprob[0];
}

TEST(NgramCounts, MovesALogProbabilityByTheLongestCountedContext) {
  NgramCounts counts;
  counts.add(std::vector<int32_t>{1, 2, 3, 9, 2, 3, 9, 2, 4});
  // After "9 2": 3 once, 4 once, with one more count shared as the model says.
  EXPECT_NEAR(moved(counts, {9, 2}, 3, 0.1, 1.0), std::log((1 + 0.1) / 3), 1e-12);
  EXPECT_NEAR(moved(counts, {9, 2}, 5, 0.1, 1.0), std::log(0.1 / 3), 1e-12);
  // "7 2" was never seen, "2" was: 3 twice, 4 once.
  EXPECT_NEAR(moved(counts, {7, 2}, 3, 0.25, 1.0), std::log(2.25 / 4), 1e-12);
  EXPECT_NEAR(moved(counts, {7, 2}, 3, 0.25, 0.5), 0.5 * std::log(0.25) + 0.5 * std::log(2.25 / 4),
              1e-12);
}

TEST(NgramCounts, LeavesAloneWhatItHasNotCounted) {
  NgramCounts counts;
  EXPECT_EQ(moved(counts, {1}, 2, 0.25, 1.0), std::log(0.25));
  counts.add(std::vector<int32_t>{1, 2});
  EXPECT_EQ(moved(counts, {2}, 1, 0.25, 1.0), std::log(0.25));
  EXPECT_EQ(moved(counts, {}, 1, 0.25, 1.0), std::log(0.25));
  EXPECT_EQ(moved(counts, {1}, 2, 0.25, 0.0), std::log(0.25));
}

TEST(NgramCounts, DistributionsSumToOne) {
  NgramCounts counts;
  counts.add(std::vector<int32_t>{0, 1, 0, 2, 0, 1, 1, 0, 3});
  std::vector<double> logprob(4, std::log(0.25));
  counts.interpolate(std::vector<int32_t>{1, 0}, std::vector<int32_t>{0, 1, 2, 3}, 1.0, logprob);
  double sum = 0.0;
  for (const double value : logprob) sum += std::exp(value);
  EXPECT_NEAR(sum, 1.0, 1e-12);
}

}  // namespace
}  // namespace forerun
