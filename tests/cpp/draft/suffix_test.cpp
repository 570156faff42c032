#include "draft/suffix.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "base/error.h"
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
                   SuffixOptions options = {}) {
  SuffixDrafter drafter(std::make_shared<SharedTexts>(kBytes), options);
  drafter.begin(context);
  return proposed(drafter, context, budget);
}

TEST(SuffixDrafter, KeepsTheContractOfDrafters) {
  for (const bool tree : {true, false}) {
    test::DrafterContract contract;
    contract.vocab = 5;
    contract.make = [tree] {
      SuffixOptions options;
      options.tree = tree;
      return std::make_unique<SuffixDrafter>(std::make_shared<SharedTexts>(kBytes), options);
    };
    for (uint32_t seed = 0; seed < 10; ++seed) contract.check(seed);
  }
}

TEST(SuffixDrafter, CopiesALongPassageWithTheWholeBudget) {
  std::vector<int32_t> context(200);
  std::iota(context.begin(), context.end(), 1000);
  context.insert(context.end(), {5, 6, 1010, 1011, 1012, 1013});
  const DraftTree tree = proposed(context, {64});
  ASSERT_EQ(tree.drafted(), 64);
  EXPECT_EQ(tree.max_depth(), 64);
  for (int32_t i = 1; i <= 64; ++i) EXPECT_EQ(tree.token()[i], 1013 + i);
  EXPECT_GT(tree.score()[64], 0.95F);
}

TEST(SuffixDrafter, ALoopGoesOnWithWhatItWroteItself) {
  const DraftTree tree = proposed({7, 8, 9, 7, 8, 9, 7, 8}, {7});
  ASSERT_EQ(tree.max_depth(), 7);
  for (int32_t i = 1; i <= 7; ++i) EXPECT_EQ(tree.token()[i], 7 + (i + 1) % 3);
}

TEST(SuffixDrafter, BranchesShareTheTokensThatTheyAgreeOnAndTheMoreFrequentScoresHigher) {
  const std::vector<int32_t> context = {1, 2, 3, 4, 50, 1, 2, 3, 5, 51, 1, 2, 3, 4, 52, 1, 2};
  const DraftTree tree = proposed(context, {9});
  const int32_t shared = tree.child_with(0, 3);
  ASSERT_GT(shared, 0);
  const int32_t often = tree.child_with(shared, 4), once = tree.child_with(shared, 5);
  ASSERT_GT(often, 0);
  ASSERT_GT(once, 0);
  EXPECT_GT(tree.score()[often], tree.score()[once]);
  EXPECT_LE(tree.score()[often] + tree.score()[once], 1.0F);
  SuffixOptions path;
  path.tree = false;
  const DraftTree chain = proposed(context, {4}, path);
  EXPECT_EQ(chain.max_depth(), chain.drafted());
  EXPECT_EQ(chain.token()[2], 4);
}

TEST(SuffixDrafter, ALongerMatchBeatsALaterShorterOne) {
  const std::vector<int32_t> context = {1, 2, 3, 4, 5, 60, 9, 4, 5, 70, 1, 2, 3, 4, 5};
  const DraftTree tree = proposed(context, {1});
  ASSERT_EQ(tree.drafted(), 1);
  EXPECT_EQ(tree.token()[1], 60);
}

TEST(SuffixDrafter, FinishedAnswersHelpLaterRequestsOfTheSameTenantOnly) {
  const auto shared = std::make_shared<SharedTexts>(kBytes);
  const std::vector<int32_t> context = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const std::vector<uint8_t> emitted = {0, 0, 0, 0, 0, 1, 1, 1, 0};
  SuffixDrafter first(shared, {}, "anna");
  first.begin(context);
  first.finish(context, emitted);
  const std::vector<int32_t> next = {40, 5, 6};
  SuffixDrafter same(shared, {}, "anna"), other(shared, {}, "bert"), nobody(shared);
  EXPECT_EQ(proposed(same, next, {5}).drafted(), 2);        // 7, 8; then the answer ended
  EXPECT_EQ(proposed(same, {40, 2, 3}, {5}).drafted(), 5);  // a few prompt tokens lead to it
  EXPECT_EQ(proposed(same, {40, 8, 9}, {5}).drafted(), 0);
  EXPECT_EQ(proposed(other, next, {5}).drafted(), 0);
  EXPECT_EQ(proposed(nobody, next, {5}).drafted(), 0);
  EXPECT_EQ(proposed(*same.fork(), next, {5}).drafted(), 2);
  SuffixOptions prompts;
  prompts.prompts = true;
  SuffixDrafter all(shared, prompts, "bert");
  all.finish(context, emitted);
  EXPECT_EQ(proposed(other, {40, 8, 9}, {5}).drafted(), 0);  // nothing follows
  EXPECT_EQ(proposed(other, {40, 1, 2}, {9}).drafted(), 7);
}

TEST(SharedTexts, AMillionTokensOfManyTenantsStayWithinTheLimit) {
  SharedTexts texts(kBytes);
  std::mt19937 random(4);
  std::vector<int32_t> text;
  for (int32_t written = 0, request = 0; written < 1000000; ++request) {
    text.clear();
    for (uint32_t i = 0; i < 1 + random() % 700; ++i)
      text.push_back(static_cast<int32_t>(random() % 9));
    texts.add("tenant " + std::to_string(request % 3000), text);
    written += static_cast<int32_t>(text.size());
    ASSERT_LE(texts.bytes(), kBytes);
  }
  EXPECT_GT(texts.texts().length() - texts.texts().begin(), 10000U);
  EXPECT_EQ(texts.owner("tenant 5000"), 0U);
  EXPECT_NE(texts.owner("tenant " + std::to_string(0)), 1U);  // marks are never given twice
}

TEST(SharedTexts, RefusesTooSmallALimitAndTooLongAName) {
  EXPECT_THROW(SharedTexts(1000), Error);
  SharedTexts texts(kBytes);
  EXPECT_THROW(texts.add(std::string(200, 'x'), std::vector<int32_t>{1}), Error);
}

}  // namespace
}  // namespace forerun
