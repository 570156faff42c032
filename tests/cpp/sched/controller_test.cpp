#include "sched/controller.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "sched/simulation.h"
#include "tree/random_tree.h"

namespace forerun {
namespace {

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

// An engine that knows its costs, and steps of a sequence by hand.
struct Bench {
  Experience known;
  TreeFitter fitter;
  Load plain{1, 0.0, 0.0};

  explicit Bench(double slope = 0.05) {
    for (int32_t rows = 1; rows <= 64; ++rows) known.costs.set(rows, 1.0 + slope * (rows - 1));
    known.observe_forward({64, 0.0, 0.0}, 1.0 + slope * 63, false);  // all sizes were in use
    known.observe_forward({1, 0.0, 0.0}, 1.0, true);
  }
  Controller::Allowance allow(Controller& controller, int32_t room = 1000) {
    return controller.allowance(known, {plain, 0, room}, {});
  }
  void fit(Controller& controller, DraftTree& tree, double draft_ms = 0.0, int32_t room = 1000) {
    const TreeFitter::Entry entry{&controller, &tree, 0, room, draft_ms};
    fitter.fit(known, plain, {&entry, 1}, 127);
  }
  void observe(Controller& controller, const DraftTree& tree, const std::vector<int32_t>& path,
               const std::vector<int32_t>& emitted) {
    const Load load{tree.size(), 0.0, 0.0};
    controller.observe(known, tree, path, emitted,
                       {plain, load, known.costs.verify_ms(load), 1.0, 0.0, 0.0});
  }
};

// A sequence that has won much: what it may stake does not bind.
Controller rich(Bench& bench) {
  Controller controller;
  DraftTree tree;
  tree.reset(0);
  const std::vector<int32_t> path(20), emitted(20);
  bench.observe(controller, tree, path, emitted);
  return controller;
}

int32_t fitted(double slope, double draft_ms, DraftTree tree) {
  Bench bench(slope);
  Controller controller = rich(bench);
  bench.allow(controller);
  bench.fit(controller, tree, draft_ms);
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
  for (const double slope : {0.05, 0.07, 0.2, 0.5, 0.79, 0.81}) {
    test::Simulation exact(0);
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
    test::Simulation run(1);
    run.truth = 0.0;
    run.score = 0.95;
    run.level_ms = level_ms;
    run.costs.slope = 0.05;
    for (int32_t i = 0; i < 60; ++i) run.step();
    int32_t drafted = 0;
    for (int32_t i = 0; i < 200; ++i) drafted += run.step().nodes > 0 ? 1 : 0;
    EXPECT_LE(drafted, 8);
  }
}

TEST(Controller, CountsANodeOnlyWhenItsParentWasAccepted) {
  Bench bench;
  Controller controller;
  DraftTree tree;
  tree.reset(0);
  const int32_t wrong = tree.add(0, 1, 0.5F, DraftSource::kModel);
  tree.add(wrong, 2, 0.9F, DraftSource::kModel);
  const int32_t right = tree.add(0, 3, 0.3F, DraftSource::kModel);
  bench.observe(controller, tree, {0, right}, {3, 7});
  const auto likely = [&](float score, int32_t depth) {
    return controller.acceptance(bench.known, DraftSource::kModel, score, depth);
  };
  EXPECT_LT(likely(0.5F, 1), 0.5);
  EXPECT_GT(likely(0.3F, 1), 0.3);
  EXPECT_NEAR(likely(0.9F, 2), 0.9, 1e-6);
}

TEST(Controller, LearnsFromGuessesThatWereNotVerified) {
  Bench bench(2.0);  // nothing pays
  Controller controller = rich(bench);
  for (int i = 0; i < 20; ++i) {
    DraftTree tree;
    tree.reset(0);
    const int32_t sure = tree.add(0, 1, 0.4F, DraftSource::kModel);
    tree.add(sure, 2, 0.8F, DraftSource::kModel);
    tree.add(0, 3, 0.2F, DraftSource::kModel);
    bench.allow(controller);
    bench.fit(controller, tree);
    ASSERT_EQ(tree.drafted(), 0);
    bench.observe(controller, tree, {0}, {3});
  }
  const auto likely = [&](float score, int32_t depth) {
    return controller.acceptance(bench.known, DraftSource::kModel, score, depth);
  };
  EXPECT_LT(likely(0.4F, 1), 0.1);
  EXPECT_GT(likely(0.2F, 1), 0.8);
  EXPECT_NEAR(likely(0.8F, 2), 0.8, 1e-6);  // its parent was not the truth
}

TEST(Controller, LearnsWhatLiesBeyondTheVerifiedPartOfAChain) {
  Bench bench(0.5);
  Controller controller = rich(bench);
  DraftTree tree;
  tree.reset(0);
  const int32_t first = tree.add(0, 1, 0.9F, DraftSource::kModel);
  tree.add(first, 2, 0.1F, DraftSource::kModel);
  bench.allow(controller);
  bench.fit(controller, tree);
  ASSERT_EQ(tree.drafted(), 1);
  bench.observe(controller, tree, {0, 1}, {1, 2});
  EXPECT_GT(controller.acceptance(bench.known, DraftSource::kModel, 0.1F, 2), 0.15);
}

TEST(Controller, AFixedNumberOfNodesIsExactWhateverTheCosts) {
  std::mt19937 random(3);
  for (int32_t fixed = 0; fixed < 12; ++fixed) {
    Controller controller({48, fixed});
    Bench unmeasured;
    unmeasured.known.costs = CostModel();
    for (int32_t i = 0; i < 20; ++i) {
      DraftTree tree = scored_tree(random);
      EXPECT_EQ(unmeasured.allow(controller).max_nodes, fixed);
      unmeasured.fit(controller, tree, 5.0);
      EXPECT_EQ(tree.drafted(), std::min(fixed, 40));
      unmeasured.observe(controller, tree, {0}, {1});
    }
  }
}

TEST(Controller, GivesNothingWithoutRoomOrMeasurements) {
  Bench bench;
  Controller controller;
  EXPECT_EQ(bench.allow(controller, 0).max_nodes, 0);
  EXPECT_EQ(bench.allow(controller, 3).max_depth, 3);
  bench.known.costs = CostModel();
  EXPECT_EQ(bench.allow(controller).max_nodes, 0);
}

TEST(Controller, KeepsNoNodeThatCouldNotBeEmitted) {
  Bench bench(0.001);
  Controller controller = rich(bench);
  DraftTree tree;
  tree.reset(0);
  for (int32_t i = 0, node = 0; i < 30; ++i) node = tree.add(node, 1, 0.99F, DraftSource::kModel);
  bench.allow(controller, 4);
  bench.fit(controller, tree, 0.0, 4);
  EXPECT_EQ(tree.drafted(), 4);
}

TEST(Controller, EveryThirtySecondForwardIsPlain) {
  test::Simulation run(2);
  run.room = 1 << 30;
  run.truth = run.score = 0.9;
  int32_t drafted = 0, longest = 0;
  for (int32_t i = 0; i < 500; ++i) {
    drafted = run.step().nodes > 0 ? drafted + 1 : 0;
    longest = std::max(longest, drafted);
  }
  EXPECT_EQ(longest, Experience::kPlainEvery);
}

// Two drafters that take time: one right, one wrong.
TEST(Controller, AsksTheDrafterWhoseStepsBringMost) {
  Bench bench(0.02);
  Controller controller;
  std::mt19937 random(8);
  std::map<DraftSource, int32_t> asked;
  for (int32_t i = 0; i < 400; ++i) {
    std::vector<Controller::Offer> offers;
    for (const DraftSource source : {DraftSource::kModel, DraftSource::kEarlyExit}) {
      offers.push_back({source, 0.0, [](int32_t nodes) { return 0.05 * nodes; }});
    }
    const auto allowed = controller.allowance(bench.known, {bench.plain, 0, 1000}, offers);
    DraftTree tree;
    tree.reset(0);
    for (const auto& offer : offers) {
      if (allowed.asked_nodes == 0 || (allowed.asked >> static_cast<int>(offer.source) & 1) == 0) {
        continue;
      }
      if (i >= 200) ++asked[offer.source];
      for (int32_t n = 0, node = 0; n < allowed.asked_nodes; ++n) {
        node = tree.add(node, 1, 0.8F, offer.source);
      }
    }
    const double draft_ms = 0.05 * tree.drafted();
    bench.fit(controller, tree, draft_ms);
    const bool good = tree.drafted() > 0 && tree.source()[1] == DraftSource::kEarlyExit;
    std::vector<int32_t> path = {0}, emitted;
    while (static_cast<int32_t>(path.size()) < tree.size() && good && random() % 5 != 0) {
      path.push_back(static_cast<int32_t>(path.size()));
      emitted.push_back(1);
    }
    emitted.push_back(2);
    const Load load{tree.size(), 0.0, 0.0};
    bench.known.observe_forward(load, 1.0 + 0.02 * (tree.size() - 1), tree.drafted() == 0);
    controller.observe(bench.known, tree, path, emitted,
                       {bench.plain, load, bench.known.costs.verify_ms(load), 1.0, draft_ms, 0.0});
  }
  EXPECT_GT(asked[DraftSource::kEarlyExit], 150);
  EXPECT_LT(asked[DraftSource::kModel], 20);
  EXPECT_GT(asked[DraftSource::kModel], 0);  // it is tried again
}

TEST(Controller, OneStallWhileAskingDoesNotEndSpeculation) {
  Bench bench;
  Controller controller = rich(bench);
  bench.known.asking_ms = 100.0;  // a plain step takes 1
  int32_t steps = 0;
  while (bench.allow(controller).max_nodes == 0 && steps < 2000) ++steps;
  EXPECT_GT(steps, 100);
  EXPECT_LT(steps, 500);
}

// The last token of an answer: nobody is asked, and nothing is learnt of who was asked before.
TEST(Controller, AStepWithoutRoomTeachesNobody) {
  Bench bench;
  Controller controller = rich(bench);
  const Controller::Offer offer{DraftSource::kModel, 0.0, [](int32_t) { return 0.1; }};
  ASSERT_GT(controller.allowance(bench.known, {bench.plain, 0, 1000}, {&offer, 1}).asked_nodes, 0);
  const DraftArm before = bench.known.arm(DraftSource::kModel);
  const double unasked = bench.known.arm(DraftSource::kRoot).worth(1.0);
  EXPECT_EQ(bench.allow(controller, 0).max_nodes, 0);
  DraftTree tree;
  tree.reset(0);
  bench.fit(controller, tree, 0.0, 0);
  bench.observe(controller, tree, {0}, {1});
  DraftArm known = before, after = bench.known.arm(DraftSource::kModel);
  EXPECT_EQ(after.worth(1.0), before.worth(1.0));
  EXPECT_EQ(bench.known.arm(DraftSource::kRoot).worth(1.0), unasked);
  const auto old_values = known.profile(8), new_values = after.profile(8);
  EXPECT_TRUE(std::equal(old_values.begin(), old_values.end(), new_values.begin()));
}

// The size is the planned tree's best under the measured costs, at once; its depth is the plan's.
TEST(Controller, BeginsWithThePlannedTree) {
  const auto first_ask = [](double slope, const std::vector<double>& planned, int32_t depth) {
    Bench bench(slope);
    if (!planned.empty()) bench.known.arm(DraftSource::kModel).expect(planned, depth);
    Controller controller = rich(bench);
    const Controller::Offer offer{DraftSource::kModel, 0.0, [](int32_t) { return 0.1; }};
    return controller.allowance(bench.known, {bench.plain, 0, 1000}, {&offer, 1});
  };
  const std::vector<double> sure = {0.95, 0.9, 0.86, 0.82, 0.8, 0.7, 0.65, 0.6}, weak = {0.4, 0.1};
  const auto usual = first_ask(0.05, {}, 0), large = first_ask(0.05, sure, 4),
             small = first_ask(0.05, weak, 1);
  EXPECT_GT(large.asked_nodes, usual.asked_nodes);
  EXPECT_LT(small.asked_nodes, usual.asked_nodes);
  EXPECT_EQ(large.asked_depth, 4);
  EXPECT_EQ(small.asked_depth, 1);
  EXPECT_EQ(usual.asked_depth, 1000);
  EXPECT_EQ(large.max_depth, 1000);                                   // of table look-ups
  EXPECT_LT(first_ask(0.8, sure, 4).asked_nodes, large.asked_nodes);  // costs still decide
}

TEST(TreeFitter, ASequenceThatHasLostTooMuchGetsNothingWhileItsNeighboursDo) {
  Bench bench(0.02);
  Controller good = rich(bench), bad;
  DraftTree plain_tree;
  plain_tree.reset(0);
  bad.observe(bench.known, plain_tree, std::vector<int32_t>{0}, std::vector<int32_t>{1},
              {bench.plain, {1, 0.0, 0.0}, 1.0, 1.0, 5.0, 0.0});
  ASSERT_FALSE(bad.account().open());
  std::vector<DraftTree> trees(2);
  std::vector<TreeFitter::Entry> entries;
  Load plain;
  for (DraftTree& tree : trees) {
    tree.reset(0);
    for (int32_t i = 0, node = 0; i < 4; ++i) node = tree.add(node, 1, 0.8F, DraftSource::kModel);
    plain.add(1, 0);
  }
  entries.push_back({&good, &trees[0], 0, 100, 0.0});
  entries.push_back({&bad, &trees[1], 0, 100, 0.0});
  bench.known.observe_forward(plain, 1.02, true);
  bench.fitter.fit(bench.known, plain, entries, 126);
  EXPECT_GT(trees[0].drafted(), 0);
  EXPECT_EQ(trees[1].drafted(), 0);
}

}  // namespace
}  // namespace forerun
