#include "tree/draft_tree.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "base/error.h"
#include "tree/random_tree.h"
#include "tree/tree_mask.h"

namespace forerun {
namespace {

std::vector<int32_t> ancestors_of(const DraftTree& tree, int32_t node) {
  std::vector<int32_t> up;
  for (; node >= 0; node = tree.parent()[node]) up.insert(up.begin(), node);
  return up;
}

TEST(DraftTree, RandomTreesAreTopologicalWithDistinctSiblingsAndCountedDepths) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const DraftTree tree = test::random_tree(random, 1 + static_cast<int32_t>(random() % 90), 7);
    std::set<std::pair<int32_t, int32_t>> edges;
    int32_t deepest = 0;
    EXPECT_EQ(tree.parent()[0], -1);
    for (int32_t i = 1; i < tree.size(); ++i) {
      EXPECT_LT(tree.parent()[i], i);
      EXPECT_TRUE(edges.insert({tree.parent()[i], tree.token()[i]}).second);
      EXPECT_EQ(tree.depth()[i], static_cast<int32_t>(ancestors_of(tree, i).size()) - 1);
      deepest = std::max(deepest, tree.depth()[i]);
      EXPECT_EQ(tree.child_with(tree.parent()[i], tree.token()[i]), i);
    }
    EXPECT_EQ(tree.max_depth(), deepest);
  }
}

TEST(DraftTree, AddingAnExistingChildKeepsItAndTheLargerScore) {
  DraftTree tree;
  tree.reset(5);
  const int32_t child = tree.add(0, 9, 0.5F, DraftSource::kNgram);
  EXPECT_EQ(tree.add(0, 9, 0.75F, DraftSource::kModel), child);
  EXPECT_EQ(tree.add(0, 9, 0.25F, DraftSource::kModel), child);
  EXPECT_EQ(tree.drafted(), 1);
  EXPECT_EQ(tree.score()[child], 0.75F);
  EXPECT_EQ(tree.source()[child], DraftSource::kNgram);
  EXPECT_EQ(tree.child_with(child, 9), -1);
}

TEST(DraftTree, ClampsScoresAndRefusesUnknownParents) {
  DraftTree tree;
  tree.reset(0);
  tree.add(0, 1, std::numeric_limits<float>::quiet_NaN(), DraftSource::kOther);
  tree.add(0, 2, 7.0F, DraftSource::kOther);
  tree.add(0, 3, -1.0F, DraftSource::kOther);
  EXPECT_EQ(tree.score()[1], 0.0F);
  EXPECT_EQ(tree.score()[2], 1.0F);
  EXPECT_EQ(tree.score()[3], 0.0F);
  EXPECT_THROW(tree.add(4, 1, 0.5F, DraftSource::kOther), Error);
  EXPECT_THROW(tree.add(-1, 1, 0.5F, DraftSource::kOther), Error);
}

TEST(DraftTree, KeepOnlyKeepsThePathsOfTheKeptNodes) {
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    DraftTree tree = test::random_tree(random, 40, 5);
    const DraftTree before = tree;
    std::vector<uint8_t> keep(static_cast<size_t>(tree.size()), 0);
    keep[0] = 1;
    for (int32_t i = 1; i < tree.size(); ++i) keep[i] = keep[tree.parent()[i]] && random() % 3 != 0;
    tree.keep_only(keep);
    int32_t node = 0;
    for (int32_t i = 0; i < before.size(); ++i) {
      if (keep[i] == 0) continue;
      EXPECT_EQ(tree.token()[node], before.token()[i]);
      EXPECT_EQ(tree.depth()[node], before.depth()[i]);
      EXPECT_EQ(tree.score()[node], before.score()[i]);
      const auto old_path = ancestors_of(before, i), new_path = ancestors_of(tree, node);
      ASSERT_EQ(old_path.size(), new_path.size());
      for (size_t j = 0; j < old_path.size(); ++j) {
        EXPECT_EQ(before.token()[old_path[j]], tree.token()[new_path[j]]);
      }
      ++node;
    }
    EXPECT_EQ(node, tree.size());
  }
}

TEST(DraftTree, KeepOnlyRefusesASetThatIsNotClosedUnderParents) {
  DraftTree tree;
  tree.reset(0);
  const int32_t child = tree.add(0, 1, 1.0F, DraftSource::kOther);
  tree.add(child, 2, 1.0F, DraftSource::kOther);
  EXPECT_THROW(tree.keep_only(std::vector<uint8_t>{1, 0, 1}), Error);
  EXPECT_THROW(tree.keep_only(std::vector<uint8_t>{0, 0, 0}), Error);
  EXPECT_THROW(tree.keep_only(std::vector<uint8_t>{1, 1}), Error);
  EXPECT_EQ(tree.size(), 3);
}

TEST(TreeMask, SeesExactlyTheAncestors) {
  std::mt19937 random(3);
  for (int round = 0; round < 60; ++round) {
    const DraftTree tree = test::random_tree(random, static_cast<int32_t>(random() % 150), 9);
    const TreeMask mask(tree);
    for (int32_t node = 0; node < tree.size(); ++node) {
      const std::vector<int32_t> path = ancestors_of(tree, node);
      EXPECT_EQ(mask.path(node), path);
      for (int32_t other = 0; other < tree.size(); ++other) {
        EXPECT_EQ(mask.sees(node, other), std::count(path.begin(), path.end(), other) == 1);
      }
    }
  }
}

}  // namespace
}  // namespace forerun
