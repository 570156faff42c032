#include "verify/verifier.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <vector>

#include "tree/random_tree.h"
#include "verify/reference_sampler.h"

namespace forerun {
namespace {

constexpr int32_t kVocab = 4;
constexpr int32_t kTokens = 4;  // a tree of depth 3 and the bonus

// A target whose logits depend on all tokens so far.
struct TabularTarget {
  std::map<std::vector<int32_t>, std::vector<float>> table;
  std::mt19937 random;

  explicit TabularTarget(uint32_t seed) : random(seed) {}
  const std::vector<float>& logits(const std::vector<int32_t>& context) {
    std::vector<float>& row = table[context];
    std::normal_distribution<float> normal(0.0F, 1.5F);
    while (row.size() < kVocab) row.push_back(normal(random));
    return row;
  }
};

std::vector<int32_t> plain(TabularTarget& target, const Sampling& sampling, uint64_t seed) {
  Sampler sampler(sampling, seed, kVocab);
  std::vector<int32_t> context = {0};
  sampler.push(0, false);
  while (static_cast<int32_t>(context.size()) <= kTokens) {
    const int32_t token =
        sampler.sample(target.logits(context), static_cast<int64_t>(context.size()));
    sampler.push(token);
    context.push_back(token);
  }
  return context;
}

DraftTree shallow_tree(std::mt19937& random, int32_t root) {
  DraftTree tree;
  tree.reset(root);
  for (int32_t i = 0, nodes = static_cast<int32_t>(random() % 14); i < nodes; ++i) {
    const int32_t parent = static_cast<int32_t>(random() % static_cast<uint32_t>(tree.size()));
    if (tree.depth()[parent] == 3) continue;
    tree.add(parent, static_cast<int32_t>(random() % kVocab), 0.5F, DraftSource::kOther);
  }
  return tree;
}

std::vector<int32_t> speculative(TabularTarget& target, const Sampling& sampling, uint64_t seed,
                                 std::mt19937& trees, int32_t& accepted) {
  Sampler sampler(sampling, seed, kVocab);
  MatchVerifier verifier;
  Verdict verdict;
  std::vector<int32_t> context = {0};
  sampler.push(0, false);
  while (static_cast<int32_t>(context.size()) <= kTokens) {
    const DraftTree tree = shallow_tree(trees, context.back());
    std::vector<float> rows;
    std::vector<std::vector<int32_t>> contexts = {context};
    for (int32_t i = 0; i < tree.size(); ++i) {
      if (i > 0) {
        contexts.push_back(contexts[static_cast<size_t>(tree.parent()[i])]);
        contexts.back().push_back(tree.token()[i]);
      }
      const std::vector<float>& row = target.logits(contexts.back());
      rows.insert(rows.end(), row.begin(), row.end());
    }
    verifier.verify(tree, {rows.data(), kVocab, kVocab}, static_cast<int64_t>(context.size()),
                    sampler, verdict);
    EXPECT_EQ(verdict.path[0], 0);
    for (size_t i = 1; i < verdict.path.size(); ++i) {
      EXPECT_EQ(tree.parent()[verdict.path[i]], verdict.path[i - 1]);
      context.push_back(tree.token()[verdict.path[i]]);
    }
    context.push_back(verdict.bonus);
    accepted += verdict.accepted();
  }
  context.resize(kTokens + 1);
  return context;
}

TEST(MatchVerifier, EmitsTheTextOfPlainDecodingForEverySeedAndTree) {
  std::mt19937 trees(1);
  int32_t accepted = 0;
  const std::vector<Sampling> samplings = {
      {},
      {.temperature = 1.0F},
      {.temperature = 0.7F, .top_k = 3},
      {.temperature = 1.3F, .repetition_penalty = 1.5F, .frequency_penalty = 0.5F}};
  for (uint32_t model = 0; model < 8; ++model) {
    TabularTarget target(model);
    for (const Sampling& sampling : samplings) {
      for (uint64_t seed = 0; seed < 150; ++seed) {
        const auto expected = plain(target, sampling, seed);
        ASSERT_EQ(speculative(target, sampling, seed, trees, accepted), expected);
      }
    }
  }
  EXPECT_GT(accepted, 4000);  // the trees did take part
}

TEST(MatchVerifier, SpeculativeTextsFollowTheProductOfTheTargetsDistributions) {
  const Sampling sampling{.temperature = 1.0F};
  TabularTarget target(42);
  const test::ReferenceSampler reference{sampling, {}, {}};
  std::vector<double> joint;
  for (int32_t code = 0; code < kVocab * kVocab * kVocab; ++code) {
    std::vector<int32_t> context = {0};
    double p = 1.0;
    for (const int32_t token : {code / 16, code / 4 % 4, code % 4}) {
      p *= reference.probabilities(target.logits(context))[static_cast<size_t>(token)];
      context.push_back(token);
    }
    joint.push_back(p);
  }
  std::vector<int64_t> counts(joint.size());
  std::mt19937 trees(2);
  int32_t accepted = 0;
  for (uint64_t seed = 0; seed < 30000; ++seed) {
    const auto text = speculative(target, sampling, seed, trees, accepted);
    ++counts[static_cast<size_t>(text[1] * 16 + text[2] * 4 + text[3])];
  }
  EXPECT_LT(test::g_test(counts, joint), 3.72);
}

TEST(MatchVerifier, ReadsOnlyTheRowsItVisits) {
  DraftTree tree;
  tree.reset(0);
  const int32_t right = tree.add(0, 2, 0.5F, DraftSource::kOther);
  tree.add(0, 1, 0.5F, DraftSource::kOther);
  std::vector<float> rows = {0, 0, 9, 0, 0, 9, 0, 0, 0, 0, 0, 0};
  const float nan = std::nanf("");
  for (size_t i = 8; i < 12; ++i) rows[i] = nan;
  Sampler sampler({}, 0, kVocab);
  Verdict verdict;
  MatchVerifier().verify(tree, {rows.data(), kVocab, kVocab}, 1, sampler, verdict);
  EXPECT_EQ(verdict.path, (std::vector<int32_t>{0, right}));
  EXPECT_EQ(verdict.bonus, 1);
  EXPECT_EQ(verdict.accepted(), 1);
}

}  // namespace
}  // namespace forerun
