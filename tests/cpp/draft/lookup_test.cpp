#include "draft/lookup.h"

#include <gtest/gtest.h>

#include <numeric>

#include "draft/contract.h"

namespace forerun {
namespace {

constexpr uint64_t kBytes = SharedTexts::kLeastBytes;

DraftTree proposed(Drafter& drafter, const std::vector<int32_t>& context, const Budget& budget) {
  DraftTree tree;
  tree.reset(context.back());
  drafter.propose(context, budget, {}, tree);
  return tree;
}

DraftTree proposed(const std::vector<int32_t>& context, const Budget& budget,
                   LookupOptions options = {}) {
  LookupDrafter drafter(options);
  drafter.begin(context);
  return proposed(drafter, context, budget);
}

TEST(LookupDrafter, KeepsTheContractOfDrafters) {
  for (const bool tree : {true, false}) {
    test::DrafterContract contract;
    contract.vocab = 5;
    contract.make = [tree] {
      LookupOptions options;
      options.tree = tree;
      return std::make_unique<LookupDrafter>(options, std::make_shared<SharedTexts>(kBytes));
    };
    for (uint32_t seed = 0; seed < 10; ++seed) contract.check(seed);
  }
}

TEST(LookupDrafter, CopiesALongPassageWithTheWholeBudget) {
  std::vector<int32_t> context(200);
  std::iota(context.begin(), context.end(), 1000);
  context.insert(context.end(), {5, 6, 1010, 1011, 1012, 1013});
  const DraftTree tree = proposed(context, {64});
  ASSERT_EQ(tree.drafted(), 64);
  EXPECT_EQ(tree.max_depth(), 64);
  for (int32_t i = 1; i <= 64; ++i) EXPECT_EQ(tree.token()[i], 1013 + i);
  EXPECT_GT(tree.score()[64], 0.95F);
}

TEST(LookupDrafter, ALoopGoesOnWithWhatItWroteItself) {
  const DraftTree tree = proposed({7, 8, 9, 7, 8, 9, 7, 8}, {7});
  ASSERT_EQ(tree.max_depth(), 7);
  for (int32_t i = 1; i <= 7; ++i) EXPECT_EQ(tree.token()[i], 7 + (i + 1) % 3);
}

TEST(LookupDrafter, BranchesShareTheTokensThatTheyAgreeOnAndTheMoreFrequentScoresHigher) {
  const std::vector<int32_t> context = {1, 2, 3, 4, 50, 1, 2, 3, 5, 51, 1, 2, 3, 4, 52, 1, 2};
  const DraftTree tree = proposed(context, {9});
  const int32_t shared = tree.child_with(0, 3);
  ASSERT_GT(shared, 0);
  const int32_t often = tree.child_with(shared, 4), once = tree.child_with(shared, 5);
  ASSERT_GT(often, 0);
  ASSERT_GT(once, 0);
  EXPECT_GT(tree.score()[often], tree.score()[once]);
  EXPECT_LE(tree.score()[often] + tree.score()[once], 1.0F);
  LookupOptions path;
  path.tree = false;
  const DraftTree chain = proposed(context, {4}, path);
  EXPECT_EQ(chain.max_depth(), chain.drafted());
  EXPECT_EQ(chain.token()[2], 4);
}

TEST(LookupDrafter, AScoreIsTheShareOfTheVotesWithOneForNoneOfThem) {
  // After 1 2: 3 three times, 4 once; every match has two tokens.
  const std::vector<int32_t> context = {9, 1, 2, 3, 8, 1, 2, 3, 7, 1, 2, 4, 6, 1, 2, 3, 5, 1, 2};
  const DraftTree tree = proposed(context, {2});
  const float odds = match_score(2) / (1.0F - match_score(2));
  ASSERT_EQ(tree.token()[1], 3);
  EXPECT_NEAR(tree.score()[1], 3 * odds / (4 * odds + 1), 1e-6);
  const DraftTree wide = proposed(context, {30});
  EXPECT_NEAR(wide.score()[wide.child_with(0, 4)], odds / (4 * odds + 1), 1e-6);
}

TEST(LookupDrafter, ALongerMatchBeatsALaterShorterOne) {
  const std::vector<int32_t> context = {1, 2, 3, 4, 5, 60, 9, 4, 5, 70, 1, 2, 3, 4, 5};
  const DraftTree tree = proposed(context, {1});
  ASSERT_EQ(tree.drafted(), 1);
  EXPECT_EQ(tree.token()[1], 60);
}

TEST(LookupDrafter, FinishedAnswersHelpLaterRequestsOfTheSameTenantOnly) {
  const auto shared = std::make_shared<SharedTexts>(kBytes);
  const std::vector<int32_t> context = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const std::vector<uint8_t> emitted = {0, 0, 0, 0, 0, 1, 1, 1, 0};
  LookupDrafter first({}, shared, "anna");
  first.begin(context);
  first.finish(context, emitted);
  const std::vector<int32_t> next = {40, 5, 6};
  LookupDrafter same({}, shared, "anna"), other({}, shared, "bert"), nobody({}, shared);
  EXPECT_EQ(proposed(same, next, {5}).drafted(), 2);        // 7, 8; then the answer ended
  EXPECT_EQ(proposed(same, {40, 2, 3}, {5}).drafted(), 5);  // a few prompt tokens lead to it
  EXPECT_EQ(proposed(same, {40, 8, 9}, {5}).drafted(), 0);
  EXPECT_EQ(proposed(other, next, {5}).drafted(), 0);
  EXPECT_EQ(proposed(nobody, next, {5}).drafted(), 0);
  EXPECT_EQ(proposed(*same.fork(), next, {5}).drafted(), 2);
  LookupOptions prompts;
  prompts.prompts = true;
  LookupDrafter all(prompts, shared, "bert");
  all.finish(context, emitted);
  EXPECT_EQ(proposed(other, {40, 8, 9}, {5}).drafted(), 0);  // nothing follows
  EXPECT_EQ(proposed(other, {40, 1, 2}, {9}).drafted(), 7);
}

TEST(LookupDrafter, OfEquallyLongMatchesTheLatestComesFirstAndTheOtherIsASecondBranch) {
  const DraftTree tree = proposed({1, 2, 7, 5, 1, 2, 8, 6, 1, 2}, {8});
  EXPECT_EQ(tree.token()[1], 8);
  EXPECT_EQ(tree.token()[2], 7);
  EXPECT_GT(tree.child_with(1, 6), 0);
  EXPECT_GT(tree.child_with(2, 5), 0);
}

TEST(LookupDrafter, NothingIsProposedWithoutAMatchOrBudget) {
  EXPECT_EQ(proposed({1, 2, 3, 4, 5}, {8}).drafted(), 0);
  EXPECT_EQ(proposed({1, 2, 1}, {8}).drafted(), 0);
  EXPECT_EQ(proposed({1, 2, 3, 1, 2}, {0}).drafted(), 0);
  EXPECT_EQ(proposed({7}, {8}).drafted(), 0);
}

TEST(LookupDrafter, ScoresRiseWithTheMatchAndStopBelowTheLeastValue) {
  for (int32_t matched = 1; matched < 40; ++matched) {
    EXPECT_GE(match_score(matched), match_score(matched - 1));
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
