#include "tree/prune.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

#include "base/error.h"
#include "tree/random_tree.h"

namespace forerun {
namespace {

using Path = std::vector<int32_t>;  // tokens from the root

Path path_of(const DraftTree& tree, int32_t node) {
  Path path;
  for (; node >= 0; node = tree.parent()[node]) path.insert(path.begin(), tree.token()[node]);
  return path;
}

std::map<Path, float> paths_of(const DraftTree& tree) {
  std::map<Path, float> paths;
  for (int32_t i = 0; i < tree.size(); ++i) paths[path_of(tree, i)] = tree.score()[i];
  return paths;
}

double value_of(const DraftTree& tree, int32_t node) {
  double value = 1.0;
  for (; node > 0; node = tree.parent()[node]) value *= tree.score()[node];
  return value;
}

TEST(TreePruner, KeepsAClosedSetOfTheLargestTotalValueWithTies) {
  std::mt19937 random(4);
  TreePruner pruner;
  for (int round = 0; round < 300; ++round) {
    const DraftTree before = test::random_tree(random, 30, 4);
    const int32_t wanted = static_cast<int32_t>(random() % 32);
    DraftTree tree = before;
    pruner.keep_best(tree, wanted);
    ASSERT_EQ(tree.drafted(), std::min(wanted, before.drafted()));
    std::vector<double> all, kept;
    for (int32_t i = 1; i < before.size(); ++i) all.push_back(value_of(before, i));
    for (int32_t i = 1; i < tree.size(); ++i) kept.push_back(value_of(tree, i));
    std::sort(all.rbegin(), all.rend());
    std::sort(kept.rbegin(), kept.rend());
    for (size_t i = 0; i < kept.size(); ++i) EXPECT_NEAR(kept[i], all[i], 1e-6);
    const auto paths = paths_of(before);
    for (int32_t i = 0; i < tree.size(); ++i) EXPECT_TRUE(paths.count(path_of(tree, i)));
  }
}

TEST(TreePruner, OrderIsClosedUnderParentsForAnyValues) {
  std::mt19937 random(5);
  TreePruner pruner;
  for (int round = 0; round < 300; ++round) {
    const DraftTree tree = test::random_tree(random, 30, 4);
    std::vector<float> values(static_cast<size_t>(tree.size()));
    for (float& value : values) value = static_cast<float>(random() % 4) / 3.0F;
    std::set<int32_t> seen = {0};
    for (const int32_t node : pruner.order(tree, values)) {
      EXPECT_TRUE(seen.count(tree.parent()[node]));
      seen.insert(node);
    }
    EXPECT_EQ(static_cast<int32_t>(seen.size()), tree.size());
  }
}

TEST(TreePruner, FusedTreeHoldsTheUnionOfThePathsWithTheLargerScores) {
  std::mt19937 random(6);
  TreePruner pruner;
  for (int round = 0; round < 200; ++round) {
    const DraftTree a = test::random_tree(random, 20, 3), b = test::random_tree(random, 20, 3);
    std::map<Path, float> expected = paths_of(a);
    for (const auto& [path, score] : paths_of(b)) {
      expected[path] = std::max(expected.count(path) ? expected[path] : 0.0F, score);
    }
    DraftTree tree = a;
    pruner.fuse(b, tree);
    EXPECT_EQ(paths_of(tree), expected);
    EXPECT_EQ(static_cast<size_t>(tree.size()), expected.size());
  }
}

TEST(TreePruner, RefusesToFuseTreesOfDifferentRoots) {
  DraftTree a, b;
  a.reset(1);
  b.reset(2);
  EXPECT_THROW(TreePruner().fuse(a, b), Error);
}

}  // namespace
}  // namespace forerun
