#include "sched/draft_arm.h"

#include <gtest/gtest.h>

#include <span>
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

TEST(DraftArm, BeginsWithThePlannedTreeUntilProposalsSayOtherwise) {
  const std::vector<double> planned = {0.9, 0.6, 0.3};
  DraftArm arm;
  EXPECT_GT(arm.depth(), 1000);
  arm.expect(planned, 2);
  EXPECT_EQ(arm.depth(), 2);
  const std::span<const double> five = arm.profile(5);
  EXPECT_EQ(std::vector<double>(five.begin(), five.begin() + 3), planned);
  EXPECT_LT(five[3], 0.3);
  EXPECT_LT(five[4], five[3]);
  const std::vector<double> found = {0.5};
  arm.learn(found, 1);
  EXPECT_LT(arm.profile(1)[0], 0.9);
  EXPECT_EQ(arm.profile(3)[2], 0.3);  // nothing was asked for that speaks against it
  for (int32_t i = 1; i < DraftArm::kPlannedSteps; ++i) {
    EXPECT_EQ(arm.depth(), 2);
    arm.learn(found, 1);
  }
  EXPECT_GT(arm.depth(), 1000);
  for (int i = 0; i < 200; ++i) arm.learn(found, 1);
  EXPECT_NEAR(arm.profile(1)[0], 0.5, 1e-6);
}

TEST(DraftArm, ReturnsToThePlanWhenItForgets) {
  const std::vector<double> planned = {0.9, 0.6}, found = {0.1, 0.1};
  DraftArm arm;
  arm.expect(planned, 2);
  for (int i = 0; i < 50; ++i) arm.learn(found, 2);
  EXPECT_NEAR(arm.profile(2)[0], 0.1, 0.02);
  for (int32_t i = 0; i < DraftArm::kForget; ++i) arm.wait();
  EXPECT_EQ(arm.profile(2)[0], 0.9);
  EXPECT_EQ(arm.profile(2)[1], 0.6);
  EXPECT_EQ(arm.depth(), 2);
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
