#include "draft/trigram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "draft/contract.h"

namespace forerun {
namespace {

constexpr uint64_t kBytes = TrigramTable::kLeastBytes;

std::vector<int32_t> tokens_of(const std::vector<TrigramTable::Successor>& successors) {
  std::vector<int32_t> out;
  for (const auto& next : successors) out.push_back(next.token);
  return out;
}

DraftTree proposed(const std::shared_ptr<TrigramTable>& table, const std::vector<int32_t>& context,
                   const Budget& budget, float explore = TrigramDrafter::kExplore) {
  TrigramDrafter drafter(table, explore);
  DraftTree tree;
  tree.reset(context.back());
  drafter.propose(context, budget, {}, tree);
  return tree;
}

TEST(TrigramDrafter, KeepsTheContractOfDrafters) {
  test::DrafterContract contract;
  const auto table = std::make_shared<TrigramTable>(kBytes);
  contract.make = [&] { return std::make_unique<TrigramDrafter>(table); };
  contract.shares_state = true;
  for (uint32_t seed = 0; seed < 10; ++seed) contract.check(seed);
}

TEST(TrigramTable, TwoTokensSayMoreThanOne) {
  TrigramTable table(kBytes);
  std::vector<TrigramTable::Successor> next;
  for (int i = 0; i < 5; ++i) {
    table.read(0, std::vector<int32_t>{1, 5, 10});
    table.read(0, std::vector<int32_t>{2, 5, 20});
  }
  table.successors(0, 1, 5, next);
  EXPECT_EQ(tokens_of(next), (std::vector<int32_t>{10, 20}));
  table.successors(0, 2, 5, next);
  EXPECT_EQ(tokens_of(next), (std::vector<int32_t>{20, 10}));
  table.successors(0, 3, 5, next);  // the last one alone
  EXPECT_EQ(next.size(), 2U);
  table.successors(0, -1, 5, next);
  EXPECT_EQ(next.size(), 2U);
  table.successors(0, 1, 6, next);
  EXPECT_TRUE(next.empty());
}

TEST(TrigramTable, SharesFollowTheFrequenciesAndThenTheirChange) {
  TrigramTable table(kBytes);
  std::mt19937 random(1);
  std::vector<TrigramTable::Successor> next;
  const auto share_of = [&](int32_t token) {
    table.successors(0, 1, 2, next);
    for (const auto& s : next) {
      if (s.token == token) return s.share;
    }
    return 0.0F;
  };
  for (int i = 0; i < 50; ++i) table.read(0, std::vector<int32_t>{1, 2, 3});
  EXPECT_GT(share_of(3), 0.5F);
  for (int i = 0; i < 50; ++i) table.read(0, std::vector<int32_t>{1, 2, 4});
  EXPECT_GT(share_of(4), 0.5F);
  EXPECT_LT(share_of(3), 0.01F);
  table.rank(0, 1, 2, std::vector<int32_t>{9, 8, -1, 7});
  table.successors(0, 1, 2, next);
  EXPECT_EQ(tokens_of(next), (std::vector<int32_t>{4, 9, 8, 7}));
  float sum = 0.0F;
  for (const auto& s : next) sum += s.share;
  EXPECT_LE(sum, 1.0F);
}

TEST(TrigramTable, AMillionTokensStayWithinTheBytesAndOldContextsMakeRoom) {
  TrigramTable table(200 << 10);
  const uint64_t bytes = table.bytes();
  EXPECT_LE(bytes, 200U << 10);
  std::mt19937 random(2);
  std::vector<int32_t> text;
  for (int i = 0; i < 1000000; ++i) text.push_back(static_cast<int32_t>(random() % 5000));
  table.read(0, std::vector<int32_t>{100001, 100002, 100003});
  table.read(0, text);
  EXPECT_EQ(table.bytes(), bytes);
  std::vector<TrigramTable::Successor> next;
  table.successors(0, 100001, 100002, next);
  EXPECT_TRUE(next.empty());
  table.successors(0, text[999997], text[999998], next);
  EXPECT_FALSE(next.empty());
}

TEST(TrigramTable, ContextsThatAreUsedStay) {
  TrigramTable table(kBytes);
  std::mt19937 random(3);
  std::vector<TrigramTable::Successor> next;
  table.read(0, std::vector<int32_t>{100001, 100002, 100003});
  for (int round = 0; round < 3000; ++round) {
    std::vector<int32_t> text(10);
    for (int32_t& token : text) token = static_cast<int32_t>(random() % 5000);
    table.read(0, text);
    table.successors(0, 100001, 100002, next);
    ASSERT_EQ(next.size(), 1U) << round;
  }
}

TEST(TrigramDrafter, WalksTheTableAlongTheLikeliestPathAndExploresByItsSetting) {
  const auto table = std::make_shared<TrigramTable>(kBytes);
  for (int i = 0; i < 20; ++i) {
    table->read(hash_bytes(""), std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8, 9});
    if (i % 4 == 0) table->read(hash_bytes(""), std::vector<int32_t>{1, 2, 30, 31, 32});
  }
  const DraftTree tree = proposed(table, {1, 2}, {8});
  int32_t node = 0;
  for (int32_t token = 3; token <= 6; ++token) {
    node = tree.child_with(node, token);
    ASSERT_GT(node, 0) << token;
  }
  EXPECT_GT(tree.child_with(0, 30), 0);
  const DraftTree eager = proposed(table, {1, 2}, {6}, 0.1F);
  const DraftTree careful = proposed(table, {1, 2}, {6}, 2.0F);
  EXPECT_GT(eager.max_depth(), careful.max_depth());
  EXPECT_EQ(proposed(table, {1, 2}, {0}).drafted(), 0);
  EXPECT_EQ(proposed(table, {77, 78}, {9}).drafted(), 0);
  EXPECT_LT(proposed(table, {1, 2}, {50, 64, 0.5F}).drafted(), 10);
}

TEST(TrigramDrafter, LearnsFromTheRankingsOfAllVerifiedNodes) {
  const auto table = std::make_shared<TrigramTable>(kBytes);
  TrigramDrafter drafter(table);
  DraftTree tree;
  tree.reset(1);
  const int32_t accepted = tree.add(0, 2, 0.5F, DraftSource::kOther);
  const int32_t rejected = tree.add(0, 3, 0.5F, DraftSource::kOther);
  tree.add(rejected, 4, 0.5F, DraftSource::kOther);
  std::vector<int32_t> topk;
  for (int32_t node = 0; node < tree.size(); ++node) {
    for (int32_t rank = 0; rank < 8; ++rank) topk.push_back(100 * node + rank);
  }
  const std::vector<int32_t> path = {0, accepted};
  drafter.observe(std::vector<int32_t>{9, 1, 2, 100}, {&tree, path, 100, topk, 8});
  const auto first = [&](int32_t before, int32_t last) {
    std::vector<TrigramTable::Successor> next;
    table->successors(hash_bytes(""), before, last, next);
    return next.empty() ? -1 : next[0].token;
  };
  EXPECT_EQ(first(9, 1), 0);
  EXPECT_EQ(first(1, 2), 100);
  EXPECT_EQ(first(1, 3), 200);
  EXPECT_EQ(first(3, 4), 300);
  EXPECT_EQ(first(5, 4), 300);
}

// A target that is sure of its best token after 1, and of none after 2.
TEST(TrigramDrafter, SharesOfARankingAreThoseOfItsLaw) {
  const auto table = std::make_shared<TrigramTable>(kBytes);
  TrigramDrafter drafter(table);
  DraftTree tree;
  tree.reset(1);
  const std::vector<int32_t> path = {0, tree.add(0, 2, 0.5F, DraftSource::kOther)};
  const std::vector<int32_t> topk = {10, 11, 12, 13, 14, 15, 16, 17,
                                     20, 21, 22, 23, 24, 25, 26, 27};
  std::vector<float> logits(16, 0.0F);
  logits[0] = 9.0F;
  const auto share = [&](int32_t last, int32_t token) {
    std::vector<TrigramTable::Successor> next;
    table->successors(hash_bytes(""), -1, last, next);
    const auto found = std::find_if(next.begin(), next.end(),
                                    [token](const auto& each) { return each.token == token; });
    return found == next.end() ? 0.0F : found->share;
  };
  const std::vector<int32_t> text = {9, 1, 2, 20};
  drafter.observe(text, {&tree, path, 20, topk, 8, {}, logits});
  EXPECT_GT(share(1, 10), 0.65F);
  for (int32_t token = 20; token < 28; ++token) EXPECT_NEAR(share(2, token), 0.0875F, 1e-3F);
  // At a temperature the law is flatter or steeper: 9 / 0.5 leaves less to the others than 9 / 4.
  const float least = share(1, 11);
  drafter.observe(text, {&tree, path, 20, topk, 8, {}, logits, 4.0F});
  EXPECT_GT(share(1, 11), 10.0F * least);
  logits[0] = std::numeric_limits<float>::infinity();  // says nothing but the order
  drafter.observe(text, {&tree, path, 20, topk, 8, {}, logits});
  EXPECT_NEAR(share(1, 10), 0.4F * TrigramTable::kRankShares[0] + 0.6F * 0.5F, 0.15F);
}

TEST(TrigramDrafter, TenantsLearnNothingFromEachOther) {
  const auto table = std::make_shared<TrigramTable>(kBytes);
  TrigramDrafter anna(table, 1.0F, "anna"), bert(table, 1.0F, "bert");
  anna.begin(std::vector<int32_t>{1, 2, 3, 4});
  DraftTree tree;
  tree.reset(2);
  bert.propose(std::vector<int32_t>{1, 2}, {4}, {}, tree);
  EXPECT_EQ(tree.drafted(), 0);
  anna.propose(std::vector<int32_t>{1, 2}, {4}, {}, tree);
  EXPECT_EQ(tree.drafted(), 2);
}

TEST(TrigramTable, RefusesTooFewBytes) { EXPECT_THROW(TrigramTable(1000), Error); }

}  // namespace
}  // namespace forerun
