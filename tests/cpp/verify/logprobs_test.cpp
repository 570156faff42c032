#include "verify/logprobs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "base/error.h"

namespace forerun {
namespace {

TEST(Logprobs, EqualALogSoftmaxInLongDouble) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0F, 4.0F);
  for (int round = 0; round < 50; ++round) {
    std::vector<float> logits(200);
    for (float& logit : logits) logit = normal(random);
    long double sum = 0;
    for (const float logit : logits) sum += expl(static_cast<long double>(logit));
    std::vector<std::pair<float, int>> ranked;
    for (int i = 0; i < 200; ++i) ranked.push_back({-logits[i], i});
    std::sort(ranked.begin(), ranked.end());
    LogprobReader reader;
    Logprobs out;
    reader.read(logits, round, 12, out);
    EXPECT_EQ(out.chosen.token, round);
    EXPECT_NEAR(out.chosen.logprob, static_cast<double>(logits[round] - logl(sum)), 1e-12);
    ASSERT_EQ(out.top.size(), 12U);
    for (int i = 0; i < 12; ++i) {
      EXPECT_EQ(out.top[i].token, ranked[i].second);
      EXPECT_NEAR(out.top[i].logprob, static_cast<double>(-ranked[i].first - logl(sum)), 1e-12);
    }
  }
}

TEST(Logprobs, TiesGoToTheLowestIdAndFewTokensGiveFewAlternatives) {
  const std::vector<float> logits = {1.0F, 2.0F, 2.0F, -INFINITY, std::nanf("")};
  LogprobReader reader;
  Logprobs out;
  reader.read(logits, 4, 10, out);
  EXPECT_EQ(out.chosen.logprob, -INFINITY);
  ASSERT_EQ(out.top.size(), 3U);
  EXPECT_EQ(out.top[0].token, 1);
  EXPECT_EQ(out.top[1].token, 2);
  EXPECT_NEAR(out.top[2].logprob, -1.0 - std::log(2.0 + std::exp(-1.0)), 1e-12);
}

TEST(Logprobs, InfiniteLogitsShareTheProbability) {
  LogprobReader reader;
  Logprobs out;
  const std::vector<float> logits = {0.0F, INFINITY, INFINITY};
  reader.read(logits, 1, 0, out);
  EXPECT_NEAR(out.chosen.logprob, std::log(0.5), 1e-12);
  reader.read(logits, 0, 0, out);
  EXPECT_EQ(out.chosen.logprob, -INFINITY);
  const std::vector<float> nothing = {-INFINITY, -INFINITY};
  reader.read(nothing, 0, 2, out);
  EXPECT_EQ(out.chosen.logprob, -INFINITY);
  EXPECT_TRUE(out.top.empty());
}

TEST(Logprobs, RefusesATokenOutsideTheRow) {
  LogprobReader reader;
  Logprobs out;
  const std::vector<float> logits = {0.0F, 1.0F};
  EXPECT_THROW(reader.read(logits, 2, 1, out), Error);
  EXPECT_THROW(reader.read(logits, -1, 1, out), Error);
  EXPECT_THROW(reader.read(logits, 0, -1, out), Error);
}

}  // namespace
}  // namespace forerun
