#include "draft/level_costs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>

namespace forerun {
namespace {

// A device whose first level takes 0.4 ms and every other 0.2 ms, with trees of about one level for
// every two nodes.
struct Device {
  double noise = 0.0;
  std::mt19937 random{7};
  static double levels(int32_t nodes) { return 1.0 + 0.5 * (nodes - 1); }
  void propose(LevelCosts& costs, int32_t nodes) {
    std::uniform_real_distribution<double> unit(0.0, 1.0);
    const double wanted = levels(nodes);
    const auto whole = static_cast<int32_t>(wanted);
    const int32_t levels = whole + (unit(random) < wanted - whole ? 1 : 0);
    costs.learn((0.4 + 0.2 * (levels - 1)) * (1.0 + noise * unit(random)), 2, levels, nodes);
  }
};

TEST(LevelCosts, KnowsNothingAtFirstAndThenWhatWasMeasured) {
  LevelCosts costs;
  EXPECT_EQ(costs.tree_ms(4), 0.0);
  EXPECT_EQ(costs.reading_ms(100), 0.0);
  costs.set(0.3, 0.01);
  EXPECT_EQ(costs.tree_ms(0), 0.0);
  EXPECT_DOUBLE_EQ(costs.tree_ms(1), 0.3);
  EXPECT_DOUBLE_EQ(costs.tree_ms(4), 4 * 0.3);  // a chain, until trees were seen
  EXPECT_DOUBLE_EQ(costs.tree_ms(100), LevelCosts::kMaxLevels * 0.3);
  EXPECT_DOUBLE_EQ(costs.reading_ms(100), 1.0);
  EXPECT_EQ(costs.reading_ms(LevelCosts::kCatchUpRows), 0.0);
}

TEST(LevelCosts, OneSlowReadOfAPromptIsNotTakenForItsPrice) {
  LevelCosts costs;
  costs.set(0.3, 0.01);
  costs.learn(1000.0, 100, 1, 1);
  EXPECT_GT(costs.reading_ms(100), 1.0);
  EXPECT_LT(costs.reading_ms(100), 1.2);
  for (int i = 0; i < 100; ++i) costs.learn(0.3 + 3.0, 100, 1, 1);  // what it is from now on
  EXPECT_NEAR(costs.reading_ms(100), 3.0, 0.1);
}

TEST(LevelCosts, TellsTheFirstLevelFromTheOthers) {
  LevelCosts costs;
  costs.set(0.1, 0.0);  // measured while the weights were in the caches
  Device device;
  for (int i = 0; i < 400; ++i) device.propose(costs, 1 + i % 6);
  EXPECT_NEAR(costs.tree_ms(1), 0.4, 0.02);
  EXPECT_NEAR(costs.level_ms(), 0.2, 0.02);
  for (int32_t nodes : {2, 4, 12}) {
    const double expected = 0.4 + 0.2 * (Device::levels(nodes) - 1);
    EXPECT_NEAR(costs.tree_ms(nodes), expected, 0.08 * expected) << nodes;
  }
}

// Where all trees are of one size, that size is known, whatever is believed of its parts.
TEST(LevelCosts, IsRightAboutTheSizeThatIsInUse) {
  for (int32_t nodes : {1, 3, 8}) {
    LevelCosts costs;
    costs.set(0.1, 0.0);
    Device device;
    for (int i = 0; i < 200; ++i) device.propose(costs, nodes);
    EXPECT_NEAR(costs.tree_ms(nodes), 0.4 + 0.2 * (Device::levels(nodes) - 1), 0.05) << nodes;
  }
}

TEST(LevelCosts, BelievesOneVerySlowProposalNoMoreThanATwiceAsSlowOne) {
  LevelCosts costs, twice;
  for (LevelCosts* one : {&costs, &twice}) one->set(0.4, 0.0);
  costs.learn(50.0, 1, 1, 1);
  twice.learn(0.8, 1, 1, 1);
  EXPECT_DOUBLE_EQ(costs.tree_ms(1), twice.tree_ms(1));
  EXPECT_GT(costs.tree_ms(1), 0.4);
}

TEST(LevelCosts, LearnsFromALongReadingWhatReadingTakes) {
  LevelCosts costs;
  costs.set(0.5, 0.0);
  costs.learn(0.5 + 2 * 0.5 + 100 * 0.02, 100, 3, 4);
  EXPECT_NEAR(costs.reading_ms(50), 50 * 0.02, 1e-12);
  EXPECT_DOUBLE_EQ(costs.tree_ms(1), 0.5);
  costs.learn(0.5, 100, 3, 4);  // less than the levels alone: says nothing
  EXPECT_NEAR(costs.reading_ms(50), 50 * 0.02, 1e-12);
}

}  // namespace
}  // namespace forerun
