#include "verify/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>
#include <vector>

#include "base/error.h"
#include "verify/reference_sampler.h"

namespace forerun {
namespace {

std::set<int32_t> drawn(const Sampling& sampling, const std::vector<float>& logits, int draws) {
  Sampler sampler(sampling, 3, static_cast<int32_t>(logits.size()));
  std::set<int32_t> tokens;
  for (int i = 0; i < draws; ++i) tokens.insert(sampler.sample(logits, i));
  return tokens;
}

TEST(Sampler, KeptTokensEqualTheReferenceOnLargeVocabulariesWithTies) {
  std::mt19937 random(5);
  for (int round = 0; round < 120; ++round) {
    const size_t vocab = 1 + random() % 4000;
    std::vector<float> logits(vocab);
    for (float& logit : logits) logit = 0.25F * static_cast<float>(random() % 60);  // many ties
    Sampling sampling{.temperature = 1.0F + static_cast<float>(random() % 3)};
    if (round % 2 == 0) sampling.top_k = static_cast<int32_t>(1 + random() % 300);
    if (round % 3 != 0)
      sampling.top_p = 0.0501F + 0.9F * static_cast<float>(random() % 1000) / 1000;
    if (round % 5 == 0) sampling.min_p = 0.3F;
    const std::vector<double> p = test::ReferenceSampler{sampling, {}, {}}.probabilities(logits);
    // The draw among the kept tokens, evaluated in full: it equals the sampler's only if the kept
    // sets agree.
    Sampler sampler(sampling, 77, static_cast<int32_t>(vocab));
    for (int64_t position = 0; position < 20; ++position) {
      double best = -INFINITY;
      int32_t expected = -1;
      for (size_t i = 0; i < vocab; ++i) {
        if (p[i] == 0) continue;
        const int32_t id = static_cast<int32_t>(i);
        const double score =
            static_cast<double>(logits[i]) / sampling.temperature + gumbel_noise(77, position, id);
        if (score > best) best = score, expected = id;
      }
      EXPECT_EQ(sampler.sample(logits, position), expected) << round;
    }
  }
}

TEST(Sampler, TopKKeepsExactlyKWithTiesToTheLowestId) {
  const std::vector<float> logits(500, 1.0F);
  const std::set<int32_t> tokens = drawn({.temperature = 1.0F, .top_k = 3}, logits, 300);
  EXPECT_EQ(tokens, (std::set<int32_t>{0, 1, 2}));
}

TEST(Sampler, TopPKeepsAtLeastOneToken) {
  const std::vector<float> logits = {0.0F, 1.0F, 5.0F, 1.0F};
  EXPECT_EQ(drawn({.temperature = 1.0F, .top_p = 1e-6F}, logits, 100), (std::set<int32_t>{2}));
}

TEST(Sampler, ZeroTemperatureIsTheLowestIdOfTheMaximumAfterPenaltiesAndBias) {
  const std::vector<float> logits = {1.0F, 4.0F, 4.0F, 3.5F};
  EXPECT_EQ(Sampler({}, 1, 4).sample(logits, 0), 1);
  EXPECT_EQ(Sampler({.logit_bias = {{3, 0.6F}}}, 1, 4).sample(logits, 0), 3);
  Sampler penalised({.repetition_penalty = 2.0F}, 1, 4);
  penalised.push(1, false);
  penalised.push(2, true);
  EXPECT_EQ(penalised.sample(logits, 0), 3);
  Sampler output_only({.frequency_penalty = 0.3F}, 1, 4);
  output_only.push(1, false);
  EXPECT_EQ(output_only.sample(logits, 0), 1);
  output_only.push(1);
  EXPECT_EQ(output_only.sample(logits, 0), 2);
  output_only.push(2), output_only.push(2);
  EXPECT_EQ(output_only.sample(logits, 0), 1);
  output_only.clear_history();
  output_only.push(2);
  EXPECT_EQ(output_only.sample(logits, 0), 1);
}

TEST(Sampler, RepetitionPenaltyMultipliesNegativeLogits) {
  Sampler sampler({.repetition_penalty = 2.0F}, 1, 2);
  sampler.push(0);
  EXPECT_EQ(sampler.sample(std::vector<float>{-1.0F, -1.5F}, 0), 1);
}

TEST(Sampler, GivesAValidIdWhateverTheLogits) {
  const float nan = std::nanf("");
  for (const float temperature : {0.0F, 1.0F}) {
    Sampler sampler({.temperature = temperature, .top_k = 2, .top_p = 0.5F, .min_p = 0.1F}, 1, 3);
    EXPECT_EQ(sampler.sample(std::vector<float>{-INFINITY, -INFINITY, -INFINITY}, 0), 0);
    EXPECT_EQ(sampler.sample(std::vector<float>{nan, nan, nan}, 0), 0);
    EXPECT_EQ(sampler.sample(std::vector<float>{nan, -INFINITY, 2.0F}, 0), 2);
    EXPECT_EQ(sampler.sample(std::vector<float>{0.0F, INFINITY, INFINITY}, 0), 1);
    Sampler forbidden({.temperature = temperature, .logit_bias = {{0, -INFINITY}, {2, -INFINITY}}},
                      1, 3);
    EXPECT_EQ(forbidden.sample(std::vector<float>{9.0F, 0.0F, 9.0F}, 0), 1);
    EXPECT_EQ(Sampler({.temperature = temperature, .top_p = 0.5F}, 1, 1)
                  .sample(std::vector<float>{1.0F}, 0),
              0);
  }
}

TEST(Sampler, IsAPureFunctionOfSeedPositionAndLogits) {
  std::vector<float> logits(64, 0.0F);
  Sampler a({.temperature = 1.0F}, 5, 64), b({.temperature = 1.0F}, 5, 64);
  std::set<int32_t> tokens;
  for (int64_t position = 0; position < 50; ++position) tokens.insert(a.sample(logits, position));
  for (int64_t position = 49; position >= 0; --position) {
    EXPECT_EQ(b.sample(logits, position), a.sample(logits, position));
  }
  EXPECT_GT(tokens.size(), 20U);
}

TEST(Sampler, RefusesParametersOutOfRange) {
  const float nan = std::nanf("");
  const std::vector<Sampling> bad = {{.temperature = -1.0F},
                                     {.temperature = nan},
                                     {.temperature = INFINITY},
                                     {.top_k = -1},
                                     {.top_p = 0.0F},
                                     {.top_p = 1.5F},
                                     {.top_p = nan},
                                     {.min_p = -0.1F},
                                     {.min_p = nan},
                                     {.repetition_penalty = 0.0F},
                                     {.repetition_penalty = INFINITY},
                                     {.frequency_penalty = nan},
                                     {.presence_penalty = INFINITY},
                                     {.logit_bias = {{4, 1.0F}}},
                                     {.logit_bias = {{-1, 1.0F}}},
                                     {.logit_bias = {{1, nan}}},
                                     {.logit_bias = {{1, INFINITY}}}};
  for (const Sampling& sampling : bad) EXPECT_THROW(Sampler(sampling, 0, 4), Error);
  Sampler sampler({}, 0, 4);
  EXPECT_THROW(sampler.push(4), Error);
  EXPECT_THROW(sampler.push(-1), Error);
  EXPECT_THROW(sampler.sample(std::vector<float>(3), 0), Error);
}

TEST(Sampler, LeavesADrawToABackEndUnlessHistoryOrBiasPlayAPart) {
  const Sampler plain({.temperature = 0.5F, .top_k = 7, .top_p = 0.9F, .min_p = 0.1F}, 42, 100);
  const auto draw = plain.draw(17);
  ASSERT_TRUE(draw.has_value());
  EXPECT_EQ(draw->seed, 42U);
  EXPECT_EQ(draw->position, 17);
  EXPECT_EQ(draw->temperature, 0.5F);
  EXPECT_EQ(draw->top_k, 7);
  EXPECT_EQ(draw->top_p, 0.9F);
  EXPECT_NEAR(draw->least_scaled, std::log(0.1), 1e-6);
  EXPECT_FALSE(Sampler({.repetition_penalty = 1.1F}, 1, 100).draw(1).has_value());
  EXPECT_FALSE(Sampler({.presence_penalty = 0.1F}, 1, 100).draw(1).has_value());
  EXPECT_FALSE(Sampler({.frequency_penalty = 0.1F}, 1, 100).draw(1).has_value());
  EXPECT_FALSE(Sampler({.logit_bias = {{3, 1.0F}}}, 1, 100).draw(1).has_value());
}

}  // namespace
}  // namespace forerun
