#include "sched/node_chooser.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

namespace forerun {
namespace {

struct Instance {
  CostModel costs;
  std::vector<std::vector<double>> values;
  std::vector<NodeChooser::Sequence> sequences;
  NodeChooser::Frame frame;
};

Instance random_instance(std::mt19937& random, size_t count) {
  const auto uniform = [&] { return static_cast<double>(random() % 10000) / 10000; };
  Instance made;
  const double slope = 0.5 * uniform(), jump = uniform();
  for (int32_t rows = 1; rows <= 32; ++rows) {
    made.costs.set(rows, 10.0 * (1.0 + slope * (rows - 1) + jump * ((rows - 1) / 4)));
  }
  made.costs.set_context(0.001, 0.004 * uniform());
  made.values.resize(count);
  for (auto& values : made.values) {
    for (uint32_t i = random() % 6; i > 0; --i) values.push_back(uniform());
    std::sort(values.begin(), values.end(), std::greater<>());
  }
  made.frame = {{}, 2.0 * uniform(), 1e9, 100};
  for (const auto& values : made.values) {
    const int32_t context = static_cast<int32_t>(random() % 2000);
    made.sequences.push_back({values, context, static_cast<int32_t>(random() % 6)});
    made.frame.plain.add(1, context);
  }
  return made;
}

double rate(const Instance& in, std::span<const int32_t> counts) {
  Load load = in.frame.plain;
  double tokens = load.rows;
  for (size_t s = 0; s < counts.size(); ++s) {
    load.add_rows(counts[s], in.sequences[s].context);
    for (int32_t i = 0; i < counts[s]; ++i) tokens += in.values[s][static_cast<size_t>(i)];
  }
  const double ms = in.costs.verify_ms(load) + in.frame.draft_ms;
  return ms > in.frame.limit_ms ? 0.0 : tokens / ms;
}

double best_by_force(const Instance& in) {
  double best = 0.0;
  std::vector<int32_t> counts(in.sequences.size());
  std::function<void(size_t)> visit = [&](size_t s) {
    if (s == counts.size()) {
      best = std::max(best, rate(in, counts));
      return;
    }
    const int32_t most = std::min(in.sequences[s].most, static_cast<int32_t>(in.values[s].size()));
    for (counts[s] = 0; counts[s] <= most; ++counts[s]) visit(s + 1);
    counts[s] = 0;
  };
  visit(0);
  return best;
}

TEST(NodeChooser, FindsTheBestGoodputOfABatch) {
  std::mt19937 random(1);
  NodeChooser chooser;
  int64_t kept = 0;
  for (int round = 0; round < 2000; ++round) {
    const Instance in = random_instance(random, 1 + round % 4);
    const double found = chooser.choose(in.costs, in.frame, in.sequences);
    ASSERT_NEAR(found, rate(in, chooser.counts()), 1e-12);
    ASSERT_NEAR(found, best_by_force(in), 1e-9 * found) << round;
    for (size_t s = 0; s < in.sequences.size(); ++s) {
      ASSERT_LE(chooser.counts()[s], in.sequences[s].most);
      kept += chooser.counts()[s];
    }
  }
  EXPECT_GT(kept, 2000);
}

TEST(NodeChooser, KeepsWithinTheLongestStepAndTheMostNodes) {
  std::mt19937 random(2);
  NodeChooser chooser;
  for (int round = 0; round < 500; ++round) {
    Instance in = random_instance(random, 3);
    in.frame.most = static_cast<int32_t>(random() % 5);
    in.frame.limit_ms = 1.3 * in.costs.verify_ms(in.frame.plain) + in.frame.draft_ms;
    chooser.choose(in.costs, in.frame, in.sequences);
    Load load = in.frame.plain;
    int32_t nodes = 0;
    for (size_t s = 0; s < 3; ++s) {
      load.add_rows(chooser.counts()[s], in.sequences[s].context);
      nodes += chooser.counts()[s];
    }
    ASSERT_LE(nodes, in.frame.most);
    ASSERT_LE(in.costs.verify_ms(load) + in.frame.draft_ms, in.frame.limit_ms);
  }
}

TEST(NodeChooser, ASteeperCostNeverKeepsMoreNodes) {
  std::mt19937 random(3);
  NodeChooser chooser;
  int different = 0;
  for (int round = 0; round < 200; ++round) {
    Instance in = random_instance(random, 1 + round % 3);
    in.costs.set_context(0.0, 0.0);
    int32_t before = 1000;
    for (double slope = 0.0; slope < 1.5; slope += 0.05) {
      for (int32_t rows = 1; rows <= 32; ++rows) in.costs.set(rows, 1.0 + slope * (rows - 1));
      chooser.choose(in.costs, in.frame, in.sequences);
      int32_t nodes = 0;
      for (const int32_t count : chooser.counts()) nodes += count;
      ASSERT_LE(nodes, before);
      different += before != 1000 && nodes != before ? 1 : 0;
      before = nodes;
    }
  }
  EXPECT_GT(different, 200);
}

TEST(NodeChooser, OfEqualValuesTheShorterContextIsCheaper) {
  CostModel costs;
  costs.set(1, 10.0);
  costs.set(8, 10.8);
  costs.set_context(0.0, 0.01);
  const std::vector<double> values = {0.5, 0.4, 0.3};
  const std::vector<NodeChooser::Sequence> sequences = {{values, 1000, 3}, {values, 10, 3}};
  NodeChooser::Frame frame{{}, 0.0, 1e9, 100};
  frame.plain.add(1, 1000);
  frame.plain.add(1, 10);
  NodeChooser chooser;
  chooser.choose(costs, frame, sequences);
  EXPECT_EQ(chooser.counts()[0], 0);
  EXPECT_EQ(chooser.counts()[1], 3);
}

}  // namespace
}  // namespace forerun
