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
      costs.observe(1 + static_cast<int32_t>(random() % 64),
                    1.0 + static_cast<double>(random() % 300));
    }
    for (int32_t rows = 2; rows <= CostModel::kMaxRows; ++rows) {
      EXPECT_GE(costs.verify_ms(rows), costs.verify_ms(rows - 1));
    }
  }
}

TEST(CostModel, FollowsWhatStepsTake) {
  CostModel costs;
  for (const int32_t rows : {1, 2, 4, 8, 16, 32}) costs.set(rows, 10.0 + rows);
  for (int i = 0; i < 300; ++i) {
    for (const int32_t rows : {1, 3, 6, 12, 20, 40}) costs.observe(rows, 2.0 * (10.0 + rows));
  }
  for (const int32_t rows : {1, 2, 4, 8, 16, 32, 40}) {
    EXPECT_NEAR(costs.verify_ms(rows), 2.0 * (10.0 + rows), 0.08 * 2.0 * (10.0 + rows)) << rows;
  }
}

TEST(CostModel, OneOutlierMovesAPointByATenthAtMost) {
  CostModel costs;
  costs.set(1, 10.0);
  costs.set(8, 20.0);
  costs.observe(1, 1e9);
  EXPECT_LE(costs.verify_ms(1), 10.0 * (1 + CostModel::kMove) + 1e-9);
  EXPECT_LE(costs.verify_ms(8), 20.0 * (1 + CostModel::kDrift) + 1e-9);
  const double before = costs.verify_ms(1);
  costs.observe(1, std::nan(""));
  costs.observe(0, 5.0);
  costs.observe(1, -1.0);
  EXPECT_EQ(costs.verify_ms(1), before);
}

TEST(CostModel, RefusesImpossibleMeasurements) {
  CostModel costs;
  EXPECT_THROW(costs.set(0, 1.0), Error);
  EXPECT_THROW(costs.set(CostModel::kMaxRows + 1, 1.0), Error);
  EXPECT_THROW(costs.set(1, 0.0), Error);
  EXPECT_THROW(costs.set(1, std::nan("")), Error);
}

}  // namespace
}  // namespace forerun
