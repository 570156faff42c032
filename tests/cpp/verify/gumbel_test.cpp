#include "verify/gumbel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "base/math.h"
#include "base/random.h"

namespace forerun {
namespace {

float noise_of(uint32_t bits) {
  return static_cast<float>(-std::log(-std::log((static_cast<double>(bits) + 0.5) / 4294967296.0)));
}

TEST(GumbelBound, IsNeverBelowTheNoise) {
  std::mt19937 random(1);
  for (int shift = 0; shift <= 32; ++shift) {
    const uint64_t edge = (uint64_t{1} << 32) - (uint64_t{1} << shift);
    for (int64_t near = -3; near <= 3; ++near) {
      const uint32_t bits = static_cast<uint32_t>(static_cast<int64_t>(edge) + near);
      EXPECT_GT(gumbel_bound(bits), noise_of(bits)) << bits;
    }
  }
  for (int i = 0; i < 200000; ++i) {
    const uint32_t bits = random() | (i % 2 ? ~0U << (random() % 32) : 0U);
    ASSERT_GT(gumbel_bound(bits), noise_of(bits)) << bits;
  }
}

TEST(GumbelBound, IsTightEnoughToSkipMostTokens) {
  std::mt19937 random(2);
  int useful = 0;
  for (int i = 0; i < 1000; ++i) useful += gumbel_bound(random()) < 3.0F ? 1 : 0;
  EXPECT_GT(useful, 900);
}

int32_t full_evaluation(const std::vector<float>& logits, const std::vector<int32_t>& kept,
                        const GumbelDraw& draw, float best) {
  int32_t winner = -1;
  float top = -std::numeric_limits<float>::infinity();
  for (const int32_t id : kept) {
    const float score =
        (logits[id] - best) / draw.temperature + gumbel_noise(draw.seed, draw.position, id);
    if (score > top || (score == top && id < winner)) {
      top = score;
      winner = id;
    }
  }
  return winner;
}

TEST(GumbelDraw, SkippingTokensNeverChangesTheWinner) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 400; ++round) {
    std::vector<float> logits(1 + random() % 3000);
    const float spread = 0.01F * static_cast<float>(1 + random() % 1000);
    for (float& logit : logits) logit = spread * normal(random);
    if (round % 5 == 0) logits[random() % logits.size()] = std::nanf("");
    if (round % 7 == 0) logits[random() % logits.size()] = -INFINITY;
    int32_t best = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      if (logits[i] > logits[best] || std::isnan(logits[best])) best = static_cast<int32_t>(i);
    }
    if (!std::isfinite(logits[best])) continue;
    const GumbelDraw draw{0.1F + 0.01F * static_cast<float>(random() % 200), random(), round};
    std::vector<int32_t> all, some;
    for (size_t i = 0; i < logits.size(); ++i) {
      all.push_back(static_cast<int32_t>(i));
      if (random() % 4 == 0 || all.back() == best) some.push_back(all.back());
    }
    EXPECT_EQ(draw.among_all(logits, best), full_evaluation(logits, all, draw, logits[best]));
    std::shuffle(some.begin(), some.end(), random);
    EXPECT_EQ(draw.among(logits, some, best), full_evaluation(logits, some, draw, logits[best]));
  }
}

TEST(GumbelDraw, RunsAmongTokensThatAreLikelyEnoughOrRankBeforeAnother) {
  std::mt19937 random(4);
  for (int round = 0; round < 300; ++round) {
    std::vector<float> logits(1 + random() % 500);
    for (float& logit : logits) logit = 0.5F * static_cast<float>(random() % 20);  // ties
    int32_t best = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      if (logits[i] > logits[best]) best = static_cast<int32_t>(i);
    }
    const GumbelDraw draw{1.0F + 0.01F * static_cast<float>(random() % 100), random(), round};
    const auto before = static_cast<int32_t>(random() % logits.size());
    if (before == best) continue;
    const float least = round % 3 == 0 ? -2.0F : -INFINITY;
    std::vector<int32_t> likely, ahead;
    for (int32_t id = 0; id < static_cast<int32_t>(logits.size()); ++id) {
      if ((logits[id] - logits[best]) / draw.temperature < least) continue;
      likely.push_back(id);
      const bool tied = logits[id] == logits[before] && id < before;
      if (logits[id] > logits[before] || tied) ahead.push_back(id);
    }
    EXPECT_EQ(draw.among_all(logits, best, least),
              full_evaluation(logits, likely, draw, logits[best]));
    EXPECT_EQ(draw.among_all(logits, best, least, before),
              full_evaluation(logits, ahead, draw, logits[best]));
  }
}

TEST(GumbelDraw, AVanishingTemperatureIsTheArgmax) {
  const std::vector<float> logits = {1.0F, 3.0F, 2.0F, 3.0F};
  const GumbelDraw draw{1e-38F, 7, 3};
  const int32_t winner = draw.among_all(logits, 1);
  EXPECT_TRUE(winner == 1 || winner == 3);
}

}  // namespace
}  // namespace forerun
