#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "verify/reference_sampler.h"
#include "verify/sampler.h"

namespace forerun {
namespace {

constexpr double kAlpha4 = 3.72;  // normal quantile of 1 - 1e-4

std::vector<float> random_logits(uint32_t seed, size_t size) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 2.0F);
  std::vector<float> logits(size);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// Draws over seeds and, for the same seed, over positions.
void expect_the_filtered_softmax(const Sampling& sampling, const std::vector<int32_t>& prompt,
                                 const std::vector<int32_t>& output) {
  const std::vector<float> logits = random_logits(11, 40);
  test::ReferenceSampler reference{sampling, {}, {}};
  for (const int32_t token : prompt) ++reference.seen[token];
  for (const int32_t token : output) ++reference.seen[token], ++reference.output[token];
  const std::vector<double> p = reference.probabilities(logits);
  std::vector<int64_t> by_seed(logits.size()), by_position(logits.size());
  Sampler one(sampling, 99, 40);
  for (const int32_t token : prompt) one.push(token, false);
  for (const int32_t token : output) one.push(token);
  for (int i = 0; i < 40000; ++i) {
    ++by_position[static_cast<size_t>(one.sample(logits, i))];
    if (i >= 20000) continue;
    Sampler fresh(sampling, static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15U, 40);
    for (const int32_t token : prompt) fresh.push(token, false);
    for (const int32_t token : output) fresh.push(token);
    ++by_seed[static_cast<size_t>(fresh.sample(logits, 5))];
  }
  EXPECT_LT(test::g_test(by_position, p), kAlpha4);
  EXPECT_LT(test::g_test(by_seed, p), kAlpha4);
}

TEST(SamplerDistribution, IsTheSoftmaxAtOneAndAtOtherTemperatures) {
  for (const float temperature : {0.3F, 1.0F, 1.7F}) {
    expect_the_filtered_softmax({.temperature = temperature}, {}, {});
  }
}

TEST(SamplerDistribution, FollowsTopK) {
  expect_the_filtered_softmax({.temperature = 1.0F, .top_k = 5}, {}, {});
}

TEST(SamplerDistribution, FollowsTopP) {
  expect_the_filtered_softmax({.temperature = 0.9F, .top_p = 0.8F}, {}, {});
}

TEST(SamplerDistribution, FollowsMinP) {
  expect_the_filtered_softmax({.temperature = 1.2F, .min_p = 0.1F}, {}, {});
}

TEST(SamplerDistribution, FollowsPenaltiesBiasAndAllFiltersTogether) {
  const Sampling sampling{.temperature = 0.8F,
                          .top_k = 20,
                          .top_p = 0.95F,
                          .min_p = 0.02F,
                          .repetition_penalty = 1.3F,
                          .frequency_penalty = 0.4F,
                          .presence_penalty = -0.3F,
                          .logit_bias = {{3, 1.5F}, {8, -INFINITY}}};
  expect_the_filtered_softmax(sampling, {1, 2, 3, 3, 17}, {4, 4, 5, 17, 30});
}

TEST(SamplerDistribution, TheGTestNoticesASmallBias) {
  std::vector<int64_t> counts = {10000, 20000, 30400, 39600};
  EXPECT_GT(test::g_test(counts, {0.1, 0.2, 0.312, 0.388}), kAlpha4);
  EXPECT_LT(test::g_test(counts, {0.1, 0.2, 0.304, 0.396}), kAlpha4);
}

}  // namespace
}  // namespace forerun
