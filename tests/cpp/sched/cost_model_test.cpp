#include "sched/cost_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/error.h"

namespace forerun {
namespace {

TEST(CostModel, IsLinearBetweenPointsAndKeepsTheLastSlope) {
  CostModel costs;
  EXPECT_EQ(costs.verify_ms(3), 0.0);
  EXPECT_FALSE(costs.measured());
  costs.set(4, 16.0);
  costs.set(1, 10.0);
  costs.set(8, 20.0);
  EXPECT_DOUBLE_EQ(costs.verify_ms(1), 10.0);
  EXPECT_DOUBLE_EQ(costs.verify_ms(2), 12.0);
  EXPECT_DOUBLE_EQ(costs.verify_ms(4), 16.0);
  EXPECT_DOUBLE_EQ(costs.verify_ms(6), 18.0);
  EXPECT_DOUBLE_EQ(costs.verify_ms(16), 28.0);
  costs.set(8, 24.0);
  EXPECT_DOUBLE_EQ(costs.verify_ms(8), 24.0);
  EXPECT_EQ(costs.points().size(), 3U);
}

TEST(CostModel, NeverCountsMoreRowsAsCheaper) {
  std::mt19937 random(1);
  for (int round = 0; round < 100; ++round) {
    CostModel costs;
    for (int i = 0; i < 6; ++i) {
      costs.set(1 + static_cast<int32_t>(random() % 64), 1.0 + static_cast<double>(random() % 100));
    }
    for (int i = 0; i < 50; ++i) {
      costs.observe({1 + static_cast<int32_t>(random() % 64), 0.0, 0.0},
                    1.0 + static_cast<double>(random() % 300));
    }
    for (int32_t rows = 2; rows <= CostModel::kMaxRows; ++rows) {
      EXPECT_GE(costs.verify_ms(rows), costs.verify_ms(rows - 1));
    }
  }
}

Load rows_only(int32_t rows) { return {rows, 0.0, 0.0}; }
Load one(int32_t rows, int32_t context) {
  Load load;
  load.add(rows, context);
  return load;
}

TEST(CostModel, FollowsWhatStepsTake) {
  CostModel costs;
  for (const int32_t rows : {1, 2, 4, 8, 16, 32}) costs.set(rows, 10.0 + rows);
  for (int i = 0; i < 300; ++i) {
    for (const int32_t rows : {1, 3, 6, 12, 20, 40}) {
      costs.observe(rows_only(rows), 2.0 * (10.0 + rows), rows == 1);
    }
  }
  for (const int32_t rows : {1, 2, 4, 8, 16, 32, 40}) {
    EXPECT_NEAR(costs.verify_ms(rows), 2.0 * (10.0 + rows), 0.08 * 2.0 * (10.0 + rows)) << rows;
  }
}

TEST(CostModel, LearnsWhatAttentionTakesFromStepsAtManyContexts) {
  const auto truth = [](const Load& load) {
    return 10.0 + 0.5 * load.rows + 0.004 * load.positions + 0.001 * load.row_positions;
  };
  CostModel costs;
  for (const int32_t rows : {1, 2, 4, 8, 16}) costs.set(rows, 10.0 + 0.5 * rows);
  costs.set_context(0.002, 0.0005);  // half of the truth
  std::mt19937 random(4);
  for (int i = 0; i < 3000; ++i) {
    const Load load =
        one(1 + static_cast<int32_t>(random() % 12), static_cast<int32_t>(random() % 2000));
    costs.observe(load, truth(load), load.rows == 1);
  }
  for (const int32_t rows : {1, 4, 8}) {
    for (const int32_t context : {50, 800, 1900}) {
      const Load load = one(rows, context);
      EXPECT_NEAR(costs.verify_ms(load), truth(load), 0.1 * truth(load)) << rows << " " << context;
    }
  }
}

TEST(CostModel, SequencesOfABatchAddUp) {
  CostModel costs;
  costs.set(1, 10.0);
  costs.set(8, 24.0);
  costs.set_context(0.01, 0.001);
  Load load;
  load.add(1, 100);
  load.add(3, 1000);
  EXPECT_DOUBLE_EQ(costs.verify_ms(load), 16.0 + 0.01 * 1100 + 0.001 * 3100);
  load.add_rows(4, 100);
  EXPECT_DOUBLE_EQ(costs.verify_ms(load), 24.0 + 0.01 * 1100 + 0.001 * 3500);
}

TEST(CostModel, BelievesWhatIsFasterAtOnceAndWhatIsSlowerSlowly) {
  CostModel costs;
  costs.set(1, 30.0);
  costs.set(8, 40.0);
  costs.observe(rows_only(1), 10.0, true);
  EXPECT_LT(costs.verify_ms(1), 12.0);
  EXPECT_LT(costs.verify_ms(8),
            30.0);  // never seen in use: perhaps it was measured too slow as well
  for (int i = 0; i < 10; ++i) costs.observe(rows_only(1), 10.0, true);
  for (int i = 0; i < 10; ++i) costs.observe(rows_only(8), 15.0);
  const double plain = costs.verify_ms(1), eight = costs.verify_ms(8);
  costs.observe(rows_only(1), 1e9, true);
  EXPECT_LE(costs.verify_ms(1), 1.05 * plain);
  EXPECT_LE(costs.verify_ms(8), 1.01 * eight);
  costs.observe(rows_only(8), 1e9);
  EXPECT_LE(costs.verify_ms(8), 1.4 * eight);
  EXPECT_LE(costs.believable_ms(rows_only(8), 1e9), 2.9 * eight);
}

TEST(CostModel, ASizeThatWasNeverUsedIsReckonedInProportion) {
  CostModel costs;
  for (const int32_t rows : {1, 2, 4, 8, 16, 32, 64}) costs.set(rows, 10.0);
  for (int i = 0; i < 5; ++i) costs.observe(rows_only(4), 12.0);
  EXPECT_EQ(costs.most_rows(), 8);
  EXPECT_NEAR(costs.risked_ms(rows_only(8)), 24.0, 2.0);
  EXPECT_NEAR(costs.risked_ms(rows_only(4)), 12.0, 1.0);
  EXPECT_TRUE(costs.trusted(4));
  EXPECT_FALSE(costs.trusted(32));
}

TEST(CostModel, IgnoresTimesThatAreNone) {
  CostModel costs;
  costs.set(1, 10.0);
  costs.observe(rows_only(1), std::nan(""));
  costs.observe(rows_only(0), 5.0);
  costs.observe(rows_only(1), -1.0);
  costs.observe(rows_only(1000), 5.0);
  EXPECT_EQ(costs.verify_ms(1), 10.0);
}

TEST(CostModel, RefusesImpossibleMeasurements) {
  CostModel costs;
  EXPECT_THROW(costs.set(0, 1.0), Error);
  EXPECT_THROW(costs.set(CostModel::kMaxRows + 1, 1.0), Error);
  EXPECT_THROW(costs.set(1, 0.0), Error);
  EXPECT_THROW(costs.set(1, std::nan("")), Error);
  EXPECT_THROW(costs.set_context(-1.0, 0.0), Error);
  EXPECT_THROW(costs.set_context(0.0, std::nan("")), Error);
}

}  // namespace
}  // namespace forerun
