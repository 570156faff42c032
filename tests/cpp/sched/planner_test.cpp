#include "sched/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <set>

#include "base/error.h"

namespace forerun {
namespace {

// All trees of up to `nodes` nodes whose children are the best guesses of their parents: the
// largest expected number of tokens, by trying every one.
double best_by_trying(const Acceptance& acceptance, int32_t nodes, int32_t depth, int32_t width) {
  struct Node {
    double value;
    int32_t depth, children;
  };
  double best = 1.0;
  const std::function<void(std::vector<Node>&, double)> grow = [&](std::vector<Node>& tree,
                                                                   double tokens) {
    best = std::max(best, tokens);
    if (static_cast<int32_t>(tree.size()) - 1 == nodes) return;
    for (size_t i = 0; i < tree.size(); ++i) {
      if (tree[i].depth == depth || tree[i].children == width) continue;
      const double value = tree[i].value * acceptance.of_rank(tree[i].children++);
      const Node child{value, tree[i].depth + 1, 0};
      tree.push_back(child);
      grow(tree, tokens + value);
      tree.pop_back();
      --tree[i].children;
    }
  };
  std::vector<Node> root = {{1.0, 0, 0}};
  grow(root, 1.0);
  return best;
}

TEST(ExpectedTree, IsTheBestOfAllTrees) {
  for (const double best : {0.4, 0.55, 0.9}) {
    for (const double rest : {0.1, 0.6}) {
      for (int32_t nodes = 0; nodes <= 6; ++nodes) {
        for (const int32_t depth : {1, 2, 6}) {
          const ExpectedTree tree = expected_tree({best, rest}, nodes, depth, 3);
          EXPECT_NEAR(tree.tokens, best_by_trying({best, rest}, nodes, depth, 3), 1e-12);
          EXPECT_LE(tree.nodes, nodes);
          EXPECT_LE(tree.depth, depth);
        }
      }
    }
  }
}

TEST(ExpectedTree, OfAChainIsTheGeometricSum) {
  const ExpectedTree tree = expected_tree({0.6, 0.0}, 4, 4);
  EXPECT_NEAR(tree.tokens, 1 + 0.6 + 0.36 + 0.216 + 0.1296, 1e-12);
  ASSERT_EQ(tree.leaf_ends.size(), 1U);
  EXPECT_NEAR(tree.leaf_ends[0], 0.1296, 1e-12);
}

TEST(Acceptance, RanksShareWhatTheBetterOnesLeave) {
  const Acceptance acceptance{0.7, 0.4};
  double sum = 0.0;
  for (int32_t rank = 0; rank < 6; ++rank) {
    sum += acceptance.of_rank(rank);
    EXPECT_NEAR(acceptance.among(rank + 1), sum, 1e-12);
  }
  EXPECT_NEAR(expected_tree(acceptance_for(3.3, 12, 6), 12, 6).tokens, 3.3, 1e-9);
}

// Two devices: a slow one with all the memory, a fast one; times are round numbers.
MachineProfile machine(int64_t fast_memory) {
  MachineProfile m;
  m.target = {.layers = 4,
              .width = 10,
              .vocab = 100,
              .layer_bytes = 1000,
              .head_bytes = 500,
              .kv_bytes = 1};
  ModelSize draft{
      .layers = 1, .width = 10, .vocab = 100, .layer_bytes = 300, .head_bytes = 100, .kv_bytes = 1};
  m.drafts = {{"model:small", draft, {0.8, 0.4}}};
  DeviceProfile slow, fast;
  slow.device = "cpu";
  slow.memory_bytes = 1 << 20;
  fast.device = "cuda:0";
  fast.memory_bytes = fast_memory;
  fast.link_us = 1000.0;
  for (DeviceProfile* device : {&slow, &fast}) {
    const double factor = device == &slow ? 10.0 : 1.0;
    for (const int32_t rows : {1, 100}) {
      device->layer.set(rows, factor * (1.0 + 0.1 * (rows - 1)));
      device->head.set(rows, factor * 0.5);
    }
    device->draft.resize(1);
    device->draft[0].set(1, factor * 2.0);
  }
  m.devices = {slow, fast};
  return m;
}

TEST(Planner, PredictsAStepByAddingItsParts) {
  const MachineProfile m = machine(1 << 20);
  PlanOptions options;
  options.context = 100;
  const ExpectedTree tree = expected_tree({0.8, 0.0}, 3, 3);
  const Plan sequential = predict(m, placed_on("cpu", 4), 0, tree, options);
  EXPECT_NEAR(sequential.verify_ms, 4 * 10.0 * 1.3 + 5.0, 1e-6);
  EXPECT_NEAR(sequential.draft_ms, 3 * 20.0, 1e-6);
  EXPECT_EQ(sequential.memory.at("cpu"), 4 * 1000 + 500 + 4 * 100 + 300 + 100 + 100);

  // Two layers and the head beside the draft: rows cross once, logits come back.
  const Plan split = predict(m, dovetailed("cpu", "cuda:0", 4, 2), 0, tree, options);
  EXPECT_NEAR(split.verify_ms, 2 * 10.0 * 1.3 + 2 * 1.3 + 0.5 + 1.0 + 1.0, 1e-4);
  EXPECT_NEAR(split.draft_ms, 3 * (2.0 + 1.0 + 1.0), 1e-4);
  EXPECT_EQ(split.memory.at("cpu"), 2 * 1000 + 2 * 100);
  EXPECT_EQ(split.memory.at("cuda:0"), 2 * 1000 + 500 + 2 * 100 + 300 + 100 + 100);
  EXPECT_EQ(split.ready, 0.0);

  const Plan plain = predict(m, placed_on("cuda", 4), -1, {}, options);
  EXPECT_NEAR(plain.verify_ms, 4 * 1.0 + 0.5 + 1.0 + 1.0, 1e-4);
  EXPECT_EQ(plain.tokens, 1.0);
}

TEST(Planner, OverlapHidesTheShareThatWasReadyAndPaysForSharedMemory) {
  MachineProfile m = machine(1 << 20);
  m.drafts[0].acceptance = {0.8, 0.0};
  const Placement apart = dovetailed("cpu", "cuda:0", 4, 0);
  const ExpectedTree chain = expected_tree({0.8, 0.0}, 2, 2);
  PlanOptions options;
  const Plan with = predict(m, apart, 0, chain, options);
  options.overlap = false;
  const Plan without = predict(m, apart, 0, chain, options);
  EXPECT_NEAR(with.ready, 0.8 * 0.8 * 0.8, 1e-12);
  EXPECT_NEAR(with.draft_ms, without.draft_ms * (1.0 - with.ready), 1e-9);
  EXPECT_EQ(with.verify_ms, without.verify_ms);
  m.devices[0].beside["cuda:0"] = 1.5;
  options.overlap = true;
  const Plan shared = predict(m, apart, 0, chain, options);
  EXPECT_GT(shared.verify_ms, with.verify_ms);
  EXPECT_LE(shared.verify_ms, 1.5 * with.verify_ms);
}

TEST(Planner, UsesTheFasterDeviceAsFarAsItsMemoryGoes) {
  PlanOptions options;
  options.context = 0;
  const auto best = [&](int64_t memory) { return make_plans(machine(memory), options).front(); };
  EXPECT_EQ(best(1 << 20).placement, placed_on("cuda", 4));
  const Plan some = best(3000);
  ASSERT_EQ(some.placement.layers.size(), 2U);
  EXPECT_LE(some.memory.at("cuda:0"), 3000);
  EXPECT_EQ(best(450).placement, dovetailed("cpu", "cuda:0", 4, 0));
  EXPECT_EQ(best(450).placement.draft, "cuda:0");
  EXPECT_EQ(best(0).placement, placed_on("cpu", 4));
}

TEST(Planner, NeverOffersWhatDoesNotFitAndSaysWhatIsMissing) {
  PlanOptions options;
  options.context = 0;
  std::mt19937 random(5);
  for (int round = 0; round < 30; ++round) {
    const auto memory = static_cast<int64_t>(random() % 6000);
    for (const Plan& plan : make_plans(machine(memory), options)) {
      const auto found = plan.memory.find("cuda:0");
      if (found != plan.memory.end()) {
        EXPECT_LE(found->second, memory);
      }
      EXPECT_FALSE(plan.why.empty());
    }
  }
  MachineProfile small = machine(100);
  small.devices[0].memory_bytes = 1000;
  try {
    make_plans(small, options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("would need"), std::string::npos);
  }
}

TEST(Planner, PlansAreSortedAndEachKindComesOnce) {
  const std::vector<Plan> plans = make_plans(machine(3000), {});
  std::set<std::string> seen;
  for (size_t i = 0; i < plans.size(); ++i) {
    if (i > 0) {
      EXPECT_LE(plans[i].tokens_per_second(), plans[i - 1].tokens_per_second());
    }
    EXPECT_TRUE(seen.insert(placement_text(plans[i].placement) + plans[i].draft).second);
  }
  EXPECT_TRUE(
      std::any_of(plans.begin(), plans.end(), [](const Plan& p) { return p.draft == "none"; }));
}

TEST(Planner, ASavedPlanIsAPlacement) {
  const Plan plan = make_plans(machine(3000), {}).front();
  Placement wanted = plan.placement;
  wanted.tree = {plan.nodes, plan.depth, plan.tokens};
  EXPECT_EQ(parse_placement(plan_json(plan), 4, "plan"), wanted);
  EXPECT_GT(wanted.tree.nodes, 0);
}

TEST(MachineProfiles, SavedAndReadAgainPlanTheSame) {
  MachineProfile m = machine(3000);
  m.devices[0].beside["cuda:0"] = 1.25;
  const MachineProfile again = parse_profile(profile_json(m), "cache");
  const std::vector<Plan> a = make_plans(m, {}), b = make_plans(again, {});
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(plan_json(a[i]), plan_json(b[i]));
  for (const char* wrong : {"", "{}", "[1]", R"({"target": 3})"}) {
    EXPECT_THROW(parse_profile(wrong, "cache"), Error);
  }
}

TEST(ImaginedDevices, HaveTheRooflineOfTheirSpecification) {
  DeviceSpec spec;
  spec.memory_gbs = 100.0;
  spec.compute_gflops = 1000.0;
  spec.operation_us = 0.0;
  ModelSize size{.layers = 2, .width = 8, .vocab = 8};
  size.layer_bytes = 100'000'000;  // 1 ms to read
  size.head_bytes = 1;
  size.layer_parameters = 50'000'000;  // 0.1 ms a row to compute
  const DeviceProfile device = imagined(spec, size, {{"model:same", size, {}}});
  EXPECT_NEAR(device.layer.verify_ms(1), 1.0, 1e-9);
  EXPECT_NEAR(device.layer.verify_ms(8), 1.0, 1e-9);
  EXPECT_NEAR(device.layer.verify_ms(32), 3.2, 1e-9);
  EXPECT_NEAR(device.draft[0].verify_ms(32), 6.4, 1e-6);
}

}  // namespace
}  // namespace forerun
