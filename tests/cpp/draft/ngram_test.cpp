#include "draft/ngram.h"

#include <gtest/gtest.h>

#include <vector>

#include "draft/contract.h"

namespace forerun {
namespace {

DraftTree proposed(const std::vector<int32_t>& context, Budget budget, int32_t min_n = 2) {
  NgramDrafter drafter(min_n);
  drafter.begin(context);
  DraftTree tree;
  tree.reset(context.back());
  drafter.propose(context, budget, {}, tree);
  return tree;
}

std::vector<int32_t> first_branch(const DraftTree& tree) {
  std::vector<int32_t> tokens;
  for (int32_t node = 0; node >= 0;) {
    int32_t child = -1;
    for (int32_t i = tree.size() - 1; i > node; --i) {
      if (tree.parent()[i] == node) child = i;
    }
    if (child > 0) tokens.push_back(tree.token()[child]);
    node = child;
  }
  return tokens;
}

TEST(NgramDrafter, KeepsTheContractOfDrafters) {
  test::DrafterContract contract;
  contract.make = [] { return std::make_unique<NgramDrafter>(1, 4); };
  contract.vocab = 5;
  for (uint32_t seed = 0; seed < 10; ++seed) contract.check(seed);
}

TEST(NgramDrafter, TheLongestMatchWinsOverALaterShorterOne) {
  const DraftTree tree = proposed({1, 2, 3, 4, 9, 3, 4, 8, 1, 2, 3, 4}, {3});
  EXPECT_EQ(first_branch(tree), (std::vector<int32_t>{9, 3, 4}));
}

TEST(NgramDrafter, TheLatestOfEquallyLongMatchesWinsAndTheOtherIsASecondBranch) {
  const DraftTree tree = proposed({1, 2, 7, 5, 1, 2, 8, 6, 1, 2}, {8});
  EXPECT_EQ(first_branch(tree), (std::vector<int32_t>{8, 6, 1, 2, 8, 6}));
  const int32_t rival = tree.child_with(0, 7);
  ASSERT_GT(rival, 0);
  EXPECT_GT(tree.child_with(rival, 5), 0);
  EXPECT_GT(tree.score()[1], tree.score()[rival]);
  EXPECT_EQ(tree.drafted(), 8);
}

TEST(NgramDrafter, ALoopIsContinuedBeyondTheEndOfTheContext) {
  const DraftTree tree = proposed({1, 2, 3, 1, 2, 3, 1, 2}, {8});
  EXPECT_EQ(first_branch(tree), (std::vector<int32_t>{3, 1, 2, 3, 1, 2, 3, 1}));
}

TEST(NgramDrafter, NothingIsProposedWithoutAMatchOrBudget) {
  EXPECT_EQ(proposed({1, 2, 3, 4, 5}, {8}).drafted(), 0);
  EXPECT_EQ(proposed({1, 2, 1}, {8}).drafted(), 0);
  EXPECT_EQ(proposed({1, 2, 1}, {8}, 1).drafted(), 8);
  EXPECT_EQ(proposed({1, 2, 3, 1, 2}, {0}).drafted(), 0);
  EXPECT_EQ(proposed({7}, {8}).drafted(), 0);
}

TEST(NgramDrafter, ScoresRiseWithTheMatchAndStopBelowTheLeastValue) {
  for (int32_t matched = 1; matched < 40; ++matched) {
    EXPECT_GE(ngram_score(matched), ngram_score(matched - 1));
  }
  const std::vector<int32_t> context = {1, 2, 3, 4, 5, 6, 1, 2};
  const DraftTree all = proposed(context, {6});
  for (int32_t i = 2; i < all.size(); ++i) EXPECT_GE(all.score()[i], all.score()[i - 1]);
  EXPECT_GT(all.score()[6], all.score()[1]);
  const DraftTree some = proposed(context, {6, 64, 0.05F});
  EXPECT_LT(some.drafted(), all.drafted());
  EXPECT_GT(some.drafted(), 0);
}

}  // namespace
}  // namespace forerun
