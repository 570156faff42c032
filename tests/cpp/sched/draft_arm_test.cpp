#include "sched/draft_arm.h"

#include <gtest/gtest.h>

#include <vector>

namespace forerun {
namespace {

TEST(DraftArm, OneWeakProposalSaysLittleAboutItsTreesAndManySayAll) {
  DraftArm arm;
  const double hoped = arm.profile(1)[0];
  const std::vector<double> weak = {0.05};
  arm.learn(weak, 1);
  EXPECT_LT(arm.profile(1)[0], hoped);
  EXPECT_GT(arm.profile(1)[0], 0.8 * hoped);
  for (int i = 0; i < 200; ++i) arm.learn(weak, 1);
  EXPECT_NEAR(arm.profile(1)[0], 0.05, 1e-6);
}

TEST(DraftArm, BelievesWhatIsExpectedUntilItsStepsSayOtherwise) {
  DraftArm arm;
  EXPECT_DOUBLE_EQ(arm.worth(1.5), 1.5);
  for (int i = 0; i < 3; ++i) arm.count(1.0, 1.25);
  EXPECT_GT(arm.worth(1.5), 1.3);
  for (int i = 0; i < 300; ++i) arm.count(1.0, 1.25);
  EXPECT_LT(arm.worth(1.5), 1.2);
  EXPECT_GT(arm.worth(1.5), 0.8);
}

// Steps without it until it is due again.
int32_t interval_of(DraftArm& arm) {
  int32_t steps = 0;
  for (; !arm.due() && steps < 1000; ++steps) arm.wait();
  return steps;
}

TEST(DraftArm, IsTriedAgainAtGrowingIntervalsThatAreShorterWhereLittleIsMissing) {
  for (const bool near : {false, true}) {
    DraftArm arm;
    std::vector<int32_t> intervals;
    for (int i = 0; i < 6; ++i) {
      arm.asked(false, near);
      intervals.push_back(interval_of(arm));
    }
    const std::vector<int32_t> expected = near ? std::vector<int32_t>{8, 16, 16, 16, 16, 16}
                                               : std::vector<int32_t>{8, 16, 32, 64, 64, 64};
    EXPECT_EQ(intervals, expected) << near;
    arm.asked(true, near);
    EXPECT_TRUE(arm.due());
  }
}

}  // namespace
}  // namespace forerun
