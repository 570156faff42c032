#include <gtest/gtest.h>

#include "sched/simulation.h"

namespace forerun {
namespace {

using test::SimulatedCosts;
using test::Simulation;

TEST(ControllerSpeed, IsNeverBelowPlainAndNearTheBestFixedLengthForAnyAcceptance) {
  const std::vector<SimulatedCosts> curves = {
      {0.02, 0, 0}, {0.1, 0, 0}, {0.3, 0, 0}, {1.0, 0, 0}, {0.01, 8, 0.8}};
  uint32_t seed = 0;
  for (const SimulatedCosts& costs : curves) {
    for (const double level_ms : {0.0, 0.05, 0.3, 1.0}) {
      for (double truth = 0.0; truth < 0.95; truth += 0.1) {
        for (const double score : {0.3, 0.7, 0.95}) {
          Simulation run(++seed);
          run.room = 1 << 30;
          run.costs = costs;
          run.level_ms = level_ms;
          run.truth = truth;
          run.score = score;
          const double speed = run.speed(1000), best = run.best_fixed_speed();
          EXPECT_GE(speed, 0.985) << truth << " " << costs.slope << " " << level_ms << " " << score;
          // Between its points the table takes a staircase for a slope.
          EXPECT_GE(speed, (costs.stair > 0 ? 0.74 : 0.82) * best)
              << truth << " " << costs.slope << " " << level_ms << " " << score;
        }
      }
    }
  }
}

TEST(ControllerSpeed, AHopelessDrafterIsAskedAtGrowingIntervalsAndReturnsWithAcceptance) {
  Simulation run(3);
  run.room = 1 << 30;
  run.truth = 0.0;
  run.level_ms = 0.1;
  std::vector<int32_t> asked;
  for (int32_t i = 0; i < 1500; ++i) {
    if (run.step().asked) asked.push_back(i);
  }
  ASSERT_GT(asked.size(), 5U);
  EXPECT_LT(asked.size(), 60U);
  for (size_t i = asked.size() - 3; i < asked.size(); ++i) {
    EXPECT_GE(asked[i] - asked[i - 1], 60);
    EXPECT_LE(asked[i] - asked[i - 1], 100);
  }
  run.truth = 0.8;
  run.speed(250);
  EXPECT_GT(run.speed(1000), 0.9 * run.best_fixed_speed());
}

TEST(ControllerSpeed, ATableLookUpThatIsHopelessCostsNothingAndIsStillLearnedAbout) {
  Simulation run(3);
  run.room = 1 << 30;
  run.truth = 0.0;
  run.speed(200);
  for (int32_t i = 0; i < 500; ++i) EXPECT_EQ(run.step().nodes, 0);
  run.truth = 0.8;
  run.speed(150);
  EXPECT_GT(run.speed(1000), 0.93 * run.best_fixed_speed());
}

TEST(ControllerSpeed, RareLongCopiesAreTaken) {
  Simulation run(5);
  run.room = 1 << 30;
  std::mt19937 random(1);
  run.proposes = [&random] { return random() % 10 == 0; };
  run.truth = run.score = 0.97;
  run.costs.slope = 0.05;
  run.speed(300);
  int32_t nodes = 0, drafts = 0;
  for (int32_t i = 0; i < 500; ++i) {
    const auto step = run.step();
    nodes += step.nodes;
    drafts += step.nodes > 0 ? 1 : 0;
  }
  EXPECT_GT(nodes, 20 * drafts);
  EXPECT_GT(drafts, 30);
}

TEST(ControllerSpeed, ADrafterMustReadAPromptOnlyForAnAnswerThatPaysForIt) {
  const auto starts = [](int32_t room, double start_ms) {
    Simulation run(6);
    run.room = room;
    run.start_ms = start_ms;
    run.level_ms = 0.05;
    run.truth = run.score = 0.8;
    for (int32_t i = 0; i < room / 2; ++i) {
      if (run.step().asked) return true;
    }
    return false;
  };
  EXPECT_TRUE(starts(400, 1.5));
  EXPECT_FALSE(starts(4, 1.5));
  EXPECT_FALSE(starts(400, 50.0));  // more than may be lost
}

}  // namespace
}  // namespace forerun
