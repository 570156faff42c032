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
      for (double truth = 0.0; truth < 1.0; truth += 0.1) {
        for (const double score : {0.3, 0.7, 0.95}) {
          Simulation run(Controller{}, ++seed);
          run.costs = costs;
          run.level_ms = level_ms;
          run.truth = truth;
          run.score = score;
          const double speed = run.speed(1000), best = run.best_fixed_speed();
          EXPECT_GE(speed, 0.97) << truth << " " << costs.slope << " " << level_ms << " " << score;
          EXPECT_GE(speed, 0.86 * best)
              << truth << " " << costs.slope << " " << level_ms << " " << score;
        }
      }
    }
  }
}

TEST(ControllerSpeed, AHopelessDrafterCostsLessThanOneAndAHalfPercent) {
  for (const double level_ms : {0.0, 0.1, 0.5}) {
    for (const double slope : {0.05, 0.3, 1.0}) {
      Simulation run(Controller{}, 7);
      run.truth = 0.0;
      run.level_ms = level_ms;
      run.costs.slope = slope;
      run.speed(500);
      EXPECT_GT(run.speed(5000), 1 - 0.015) << level_ms << " " << slope;
    }
  }
}

TEST(ControllerSpeed, ProbesComeAtGrowingIntervalsAndSpeculationReturnsWithAcceptance) {
  for (const double level_ms : {0.0, 0.1}) {
    Simulation run(Controller{}, 3);
    run.truth = 0.0;
    run.level_ms = level_ms;
    std::vector<int32_t> probes;
    for (int32_t i = 0; i < 1500; ++i) {
      if (run.step().nodes > 0) probes.push_back(i);
    }
    ASSERT_GT(probes.size(), 5U);
    EXPECT_LT(probes.size(), 60U);
    for (size_t i = probes.size() - 3; i < probes.size(); ++i) {
      EXPECT_GE(probes[i] - probes[i - 1], 60);
      EXPECT_LE(probes[i] - probes[i - 1], 100);
    }
    run.truth = 0.8;
    run.speed(250);
    EXPECT_GT(run.speed(1000), 0.93 * run.best_fixed_speed());
  }
}

TEST(ControllerSpeed, RareLongCopiesAreTaken) {
  Simulation run(Controller{}, 5);
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

}  // namespace
}  // namespace forerun
