// p as verifiers read it: the sampler's own distribution, with the history of each node's path.

#include "verify/target_laws.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tree/random_tree.h"
#include "verify/reference_sampler.h"

namespace forerun {
namespace {

constexpr int32_t kVocab = 9;

std::vector<Sampling> samplings() {
  return {{.temperature = 1.0F},
          {.temperature = 0.6F, .top_k = 4},
          {.temperature = 1.2F, .top_p = 0.7F},
          {.temperature = 0.9F, .min_p = 0.2F},
          {.temperature = 0.8F,
           .top_k = 6,
           .top_p = 0.8F,
           .min_p = 0.05F,
           .repetition_penalty = 1.4F,
           .frequency_penalty = 0.3F,
           .presence_penalty = 0.2F,
           .logit_bias = {{2, 1.5F}, {3, -INFINITY}}}};
}

std::vector<float> random_logits(std::mt19937& random, int32_t rows) {
  std::normal_distribution<float> normal(0.0F, 2.0F);
  std::vector<float> logits(static_cast<size_t>(rows * kVocab));
  for (float& logit : logits) logit = normal(random);
  return logits;
}

double law_error(const TokenLaw& law, const std::vector<double>& wanted) {
  double error = 0.0, sum = 0.0;
  for (int32_t token = 0; token < kVocab; ++token) {
    error = std::max(error, std::abs(law.of(token) - wanted[static_cast<size_t>(token)]));
    sum += law.of(token);
  }
  return std::max(error, std::abs(sum - 1.0));
}

TEST(SamplerDistribution, IsTheLawThatSampleDrawsFrom) {
  std::mt19937 random(1);
  for (const Sampling& sampling : samplings()) {
    for (int trial = 0; trial < 40; ++trial) {
      const std::vector<float> logits = random_logits(random, 1);
      Sampler sampler(sampling, 5, kVocab);
      test::ReferenceSampler reference{sampling, {}, {}};
      for (const int32_t token : {1, 4, 4, 7}) {
        const bool output = token != 7;
        sampler.push(token, output);
        ++reference.seen[token];
        if (output) ++reference.output[token];
      }
      TokenLaw law;
      sampler.distribution(logits, law);
      EXPECT_LT(law_error(law, reference.probabilities(logits)), 1e-6);
      sampler.push(2);
      sampler.push(4);
      sampler.pop(4);
      sampler.pop(2);
      TokenLaw again;
      sampler.distribution(logits, again);
      EXPECT_EQ(again.probability, law.probability);
    }
  }
}

TEST(SamplerDistribution, IsOneTokenWhereNothingIsLeftToChance) {
  TokenLaw law;
  const std::vector<float> logits = {0, 3, 1, 3, 0, 0, 0, 0, 0};
  Sampler({}, 0, kVocab).distribution(logits, law);
  EXPECT_EQ(law.tokens, std::vector<int32_t>{1});
  EXPECT_EQ(law.of(1), 1.0);
  EXPECT_EQ(law.of(3), 0.0);
  std::vector<float> infinite = logits;
  infinite[5] = INFINITY;
  Sampler({.temperature = 1.0F}, 0, kVocab).distribution(infinite, law);
  EXPECT_EQ(law.of(5), 1.0);
  std::vector<float> broken(kVocab, std::nanf(""));
  broken[6] = 0.0F;
  Sampler({.temperature = 1.0F}, 0, kVocab).distribution(broken, law);
  EXPECT_EQ(law.of(6), 1.0);
  EXPECT_EQ(law.of(0), 0.0);
}

TEST(SampledLaws, FollowTheHistoryOfThePathInAnyOrder) {
  std::mt19937 random(2);
  for (const Sampling& sampling : samplings()) {
    for (int trial = 0; trial < 10; ++trial) {
      DraftTree tree;
      tree.reset(0);
      while (tree.size() < 12) {
        tree.add(static_cast<int32_t>(random() % static_cast<uint32_t>(tree.size())),
                 static_cast<int32_t>(random() % kVocab), 0.5F, DraftSource::kOther);
      }
      const std::vector<float> rows = random_logits(random, tree.size());
      Sampler sampler(sampling, 5, kVocab);
      sampler.push(0, false);
      SampledLaws laws;
      laws.begin(tree, {rows.data(), kVocab, kVocab}, sampler);
      for (int visit = 0; visit < 30; ++visit) {
        const auto node = static_cast<int32_t>(random() % static_cast<uint32_t>(tree.size()));
        test::ReferenceSampler reference{sampling, {{0, 1}}, {}};
        for (int32_t at = node; at > 0; at = tree.parent()[at]) {
          ++reference.seen[tree.token()[at]];
          ++reference.output[tree.token()[at]];
        }
        const auto row = rows.begin() + node * kVocab;
        EXPECT_LT(law_error(laws.at(node), reference.probabilities({row, row + kVocab})), 1e-6);
      }
    }
  }
}

}  // namespace
}  // namespace forerun
