#include "draft/recycle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "base/error.h"
#include "draft/contract.h"

namespace forerun {
namespace {

TEST(RecycleDrafter, KeepsTheContractOfDrafters) {
  test::DrafterContract contract;
  const auto table = std::make_shared<RecycleTable>(contract.vocab);
  contract.make = [&] { return std::make_unique<RecycleDrafter>(table); };
  contract.shares_state = true;
  for (uint32_t seed = 0; seed < 10; ++seed) contract.check(seed);
}

TEST(RecycleDrafter, WalksTheTableAsTheBestTreeByRank) {
  const auto table = std::make_shared<RecycleTable>(100);
  for (int32_t token = 0; token < 10; ++token) {
    std::vector<int32_t> row;
    for (int32_t rank = 0; rank < 8; ++rank) row.push_back((token * 7 + rank + 1) % 10);
    table->store(token, row);
  }
  RecycleDrafter drafter(table);
  for (const int32_t budget : {1, 4, 9, 20}) {
    DraftTree tree;
    tree.reset(3);
    drafter.propose(std::vector<int32_t>{3}, {budget}, {}, tree);
    ASSERT_EQ(tree.drafted(), budget);
    // Oracle: the largest products of rates over all rank paths of up to 5 levels.
    const auto rates = table->rates();
    std::vector<double> products, level = {1.0}, found;
    for (int32_t depth = 0; depth < 5; ++depth) {
      std::vector<double> next;
      for (const double value : level) {
        for (const float rate : rates) next.push_back(value * rate);
      }
      std::sort(next.rbegin(), next.rend());
      next.resize(std::min<size_t>(next.size(), 60));
      products.insert(products.end(), next.begin(), next.end());
      level = next;
    }
    std::sort(products.rbegin(), products.rend());
    std::vector<double> value = {1.0};
    for (int32_t i = 1; i < tree.size(); ++i) {
      const int32_t parent = tree.parent()[i];
      value.push_back(value[static_cast<size_t>(parent)] * static_cast<double>(tree.score()[i]));
      const auto row = table->row(tree.token()[parent]);
      const auto rank = std::find(row.begin(), row.end(), tree.token()[i]) - row.begin();
      ASSERT_LT(rank, 8);
      EXPECT_EQ(tree.score()[i], rates[static_cast<size_t>(rank)]);
    }
    std::sort(value.rbegin(), value.rend());
    for (int32_t i = 1; i < tree.size(); ++i) {
      EXPECT_NEAR(value[static_cast<size_t>(i)], products[static_cast<size_t>(i) - 1], 1e-6);
    }
  }
}

TEST(RecycleDrafter, StoresTheRowsOfAllNodesAcceptedOnesLast) {
  const auto table = std::make_shared<RecycleTable>(50);
  RecycleDrafter drafter(table);
  DraftTree tree;
  tree.reset(1);
  const int32_t accepted = tree.add(0, 2, 0.5F, DraftSource::kOther);
  const int32_t other = tree.add(0, 3, 0.5F, DraftSource::kOther);
  tree.add(other, 2, 0.5F, DraftSource::kOther);  // the same token as the accepted node, later
  std::vector<int32_t> topk;
  for (int32_t node = 0; node < tree.size(); ++node) {
    for (int32_t rank = 0; rank < 8; ++rank) topk.push_back(10 * node + rank);
  }
  const std::vector<int32_t> path = {0, accepted};
  drafter.observe(std::vector<int32_t>{1, 2, 40}, {&tree, path, 40, topk, 8});
  EXPECT_EQ(table->row(1)[0], 0);
  EXPECT_EQ(table->row(2)[0], 10);
  EXPECT_EQ(table->row(2)[7], 17);
  EXPECT_EQ(table->row(3)[0], 20);
}

TEST(RecycleDrafter, LearnsHowOftenEachRankIsRight) {
  const auto table = std::make_shared<RecycleTable>(50);
  RecycleDrafter drafter(table);
  const std::vector<int32_t> row = {10, 11, 12, 13, 14, 15, 16, 17};
  table->store(1, row);
  DraftTree tree;
  tree.reset(1);
  for (int i = 0; i < 2000; ++i) {
    const int32_t truth = i % 10 < 6 ? 10 : (i % 10 < 9 ? 12 : 49);
    drafter.observe(std::vector<int32_t>{1, truth}, {&tree, std::vector<int32_t>{0}, truth, {}, 0});
  }
  const auto rates = table->rates();
  EXPECT_NEAR(rates[0], 0.6, 0.02);
  EXPECT_NEAR(rates[1], 0.0, 0.02);
  EXPECT_NEAR(rates[2], 0.3, 0.02);
}

TEST(RecycleDrafter, ThePromptFillsAnEmptyTable) {
  const auto table = std::make_shared<RecycleTable>(50);
  RecycleDrafter drafter(table);
  const std::vector<int32_t> prompt = {1, 2, 3, 1, 4, 1};
  drafter.begin(prompt);
  EXPECT_EQ(table->row(1)[0], 2);
  EXPECT_EQ(table->row(1)[1], 4);
  EXPECT_EQ(table->row(1)[2], -1);
  DraftTree tree;
  tree.reset(1);
  drafter.propose(prompt, {5}, {}, tree);
  EXPECT_GT(tree.drafted(), 2);
}

TEST(RecycleTable, IgnoresIdsOutsideTheVocabulary) {
  RecycleTable table(4);
  table.store(9, std::vector<int32_t>{1, 2});
  table.store(-1, std::vector<int32_t>{1, 2});
  table.store(2, std::vector<int32_t>{7, 1, -3, 3});
  table.note(2, 99);
  EXPECT_EQ(table.row(2)[0], 1);
  EXPECT_EQ(table.row(2)[1], 3);
  EXPECT_EQ(table.row(2)[2], -1);
  EXPECT_EQ(table.row(77)[0], -1);
  EXPECT_THROW(RecycleTable(0), Error);
}

TEST(RecycleTable, ManyThreadsMayReadAndWrite) {
  RecycleTable table(16);
  std::vector<std::thread> threads;
  for (int32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&table, t] {
      for (int32_t i = 0; i < 5000; ++i) {
        table.store(i % 16, std::vector<int32_t>{t, i % 16, 3});
        table.count(i % 9);
        for (const int32_t id : table.row((i * 7) % 16)) EXPECT_LT(id, 16);
        EXPECT_GT(table.rates()[0], 0.0F);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace forerun
