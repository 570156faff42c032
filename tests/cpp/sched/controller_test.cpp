#include "sched/controller.h"

#include <gtest/gtest.h>

#include <random>

#include "sched/simulation.h"
#include "tree/random_tree.h"

namespace forerun {
namespace {

const Controller::DraftMs kFree = [](int32_t) { return 0.0; };

// Scores drawn at random, unlike random_tree's.
DraftTree scored_tree(std::mt19937& random) {
  DraftTree tree;
  tree.reset(0);
  for (int32_t i = 0; i < 40; ++i) {
    const int32_t parent = static_cast<int32_t>(random() % static_cast<uint32_t>(tree.size()));
    tree.add(parent, static_cast<int32_t>(random() % 5),
             1e-3F * static_cast<float>(random() % 1000), DraftSource::kModel);
  }
  return tree;
}

int32_t fitted(double slope, double draft_ms, DraftTree tree) {
  test::SimulatedCosts costs{slope, 0, 0};
  Controller controller;
  const CostModel model = costs.model();
  const std::vector<int32_t> root = {0};
  DraftTree probe;  // a first failed step, so that no probe is due
  probe.reset(0);
  probe.add(0, 1, 0.001F, DraftSource::kOther);
  controller.observe(model, probe, root, 0.0);
  controller.allowance(model, 1000, kFree);
  controller.fit(model, draft_ms, tree);
  return tree.drafted();
}

TEST(Controller, ASteeperVerifyCostNeverKeepsMoreNodes) {
  std::mt19937 random(1);
  int32_t different = 0;
  for (int round = 0; round < 100; ++round) {
    const DraftTree tree = scored_tree(random);
    int32_t before = 1000;
    for (double slope = 0.0; slope < 1.5; slope += 0.05) {
      const int32_t nodes = fitted(slope, 0.1 * (round % 3), tree);
      EXPECT_LE(nodes, before);
      different += before != 1000 && nodes != before ? 1 : 0;
      before = nodes;
    }
  }
  EXPECT_GT(different, 300);
}

TEST(Controller, KeepsTheNumberOfNodesThatMaximisesTokensPerTime) {
  // A chain whose calibrated acceptance is still the prior, which is the score itself.
  DraftTree tree;
  tree.reset(0);
  for (int32_t i = 0, node = 0; i < 30; ++i) node = tree.add(node, 1, 0.8F, DraftSource::kModel);
  for (const double slope : {0.02, 0.07, 0.2, 0.5, 0.79, 0.81}) {
    test::Simulation exact(Controller{}, 0);
    exact.truth = 0.8;
    exact.costs.slope = slope;
    const int32_t nodes = fitted(slope, 0.0, tree);
    if (nodes < 30) {
      EXPECT_GE(exact.fixed_speed(nodes) + 1e-6, exact.best_fixed_speed()) << slope;
    }
    EXPECT_EQ(nodes == 0, slope > 0.8) << slope;
  }
}

TEST(Controller, AcceptanceZeroLeadsToPlainDecodingAfterABoundedNumberOfSteps) {
  for (const double level_ms : {0.0, 0.2}) {
    test::Simulation run(Controller{}, 1);
    run.truth = 0.0;
    run.score = 0.95;
    run.level_ms = level_ms;
    run.costs.slope = 0.05;
    for (int32_t i = 0; i < 40; ++i) run.step();
    int32_t drafted = 0;
    for (int32_t i = 0; i < 200; ++i) drafted += run.step().nodes > 0 ? 1 : 0;
    EXPECT_LE(drafted, 8);
  }
}

TEST(Controller, CalibrationConvergesToTheAcceptanceOfEachBin) {
  std::mt19937 random(2);
  Controller controller({48, 4});
  const CostModel costs = test::SimulatedCosts{}.model();
  const auto truth = [](float score) { return 0.1 + 0.6 * score * score; };
  const std::vector<float> scores = {0.05F, 0.2F, 0.45F, 0.7F, 0.9F, 0.99F};
  std::vector<double> average(scores.size());
  for (int32_t i = 0; i < 6000; ++i) {
    DraftTree tree;
    tree.reset(0);
    std::vector<int32_t> path = {0};
    bool alive = true;
    for (int32_t node = 0; node < 4;) {
      const float score = scores[random() % scores.size()];
      node = tree.add(node, 1, score, DraftSource::kNgram);
      alive = alive && static_cast<double>(random() % 100000) < 1e5 * truth(score);
      if (alive) path.push_back(node);
    }
    controller.allowance(costs, 100, kFree);
    controller.fit(costs, 0.0, tree);
    ASSERT_EQ(tree.drafted(), 4);
    controller.observe(costs, tree, path, 0.0);
    for (size_t s = 0; s < scores.size() && i >= 1000; ++s) {
      average[s] += controller.acceptance(DraftSource::kNgram, scores[s]) / 5000;
    }
  }
  for (size_t s = 0; s < scores.size(); ++s)
    EXPECT_NEAR(average[s], truth(scores[s]), 0.06) << scores[s];
  EXPECT_NEAR(controller.acceptance(DraftSource::kModel, 0.2F), 0.2,
              1e-6);  // another source: the prior
}

TEST(Controller, CountsANodeOnlyWhenItsParentWasAccepted) {
  Controller controller;
  const CostModel costs = test::SimulatedCosts{}.model();
  DraftTree tree;
  tree.reset(0);
  const int32_t wrong = tree.add(0, 1, 0.5F, DraftSource::kModel);
  tree.add(wrong, 2, 0.9F, DraftSource::kModel);
  const int32_t right = tree.add(0, 3, 0.3F, DraftSource::kModel);
  controller.observe(costs, tree, std::vector<int32_t>{0, right}, 0.0);
  EXPECT_LT(controller.acceptance(DraftSource::kModel, 0.5F), 0.5);
  EXPECT_GT(controller.acceptance(DraftSource::kModel, 0.3F), 0.3);
  EXPECT_NEAR(controller.acceptance(DraftSource::kModel, 0.9F), 0.9, 1e-6);
}

TEST(Controller, AFixedNumberOfNodesIsExactWhateverTheCosts) {
  std::mt19937 random(3);
  for (int32_t fixed = 0; fixed < 12; ++fixed) {
    Controller controller({48, fixed});
    const CostModel unmeasured;
    for (int32_t i = 0; i < 20; ++i) {
      DraftTree tree = scored_tree(random);
      EXPECT_EQ(controller.allowance(unmeasured, 100, kFree).max_nodes, fixed);
      controller.fit(unmeasured, 5.0, tree);
      EXPECT_EQ(tree.drafted(), std::min(fixed, 40));
      controller.observe(unmeasured, tree, std::vector<int32_t>{0}, 5.0);
    }
  }
}

TEST(Controller, GivesNothingWithoutRoomOrMeasurements) {
  Controller controller;
  EXPECT_EQ(controller.allowance(test::SimulatedCosts{}.model(), 0, kFree).max_nodes, 0);
  EXPECT_EQ(controller.allowance(CostModel(), 100, kFree).max_nodes, 0);
  EXPECT_EQ(controller.allowance(test::SimulatedCosts{}.model(), 3, kFree).max_depth, 3);
}

}  // namespace
}  // namespace forerun
