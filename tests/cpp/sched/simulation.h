#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "sched/controller.h"

namespace forerun::test {

// T_v of n rows in plain steps: 1 + slope per extra row, with a jump after every `stair` rows.
struct SimulatedCosts {
  double slope = 0.05;
  int32_t stair = 0;
  double jump = 0.0;
  double at(int32_t rows) const {
    const double steps = stair > 0 ? (rows - 1) / stair : 0;
    return 1.0 + slope * (rows - 1) + jump * steps;
  }
  CostModel model() const {
    CostModel costs;
    for (int32_t rows = 1; rows <= 64; ++rows) costs.set(rows, at(rows));
    return costs;
  }
};

// Decoding with a chain drafter: a node that claims `score` is accepted with probability `truth`
// given its parent.
class Simulation {
 public:
  double score = 0.7;
  double truth = 0.7;
  double level_ms = 0.0;  // draft time per node, in plain steps
  SimulatedCosts costs;
  std::function<bool()> proposes = [] { return true; };

  Simulation(Controller controller, uint32_t seed)
      : controller_(std::move(controller)), random_(seed) {}

  struct Step {
    int32_t tokens = 0, nodes = 0;
    double ms = 0.0;
  };

  Step step() {
    if (!table_.measured()) table_ = costs.model();
    const auto allowed =
        controller_.allowance(table_, 1000, [this](int32_t nodes) { return level_ms * nodes; });
    tree_.reset(0);
    const int32_t length = proposes() ? std::min(allowed.max_nodes, allowed.max_depth) : 0;
    for (int32_t i = 0, node = 0; i < length; ++i) {
      node = tree_.add(node, 1, static_cast<float>(score), DraftSource::kModel);
    }
    const double draft_ms = level_ms * length;
    if (allowed.max_nodes > 0) controller_.fit(table_, draft_ms, tree_);
    std::vector<int32_t> path = {0};
    std::bernoulli_distribution accepted(truth);
    while (static_cast<int32_t>(path.size()) < tree_.size() && accepted(random_)) {
      path.push_back(static_cast<int32_t>(path.size()));
    }
    controller_.observe(table_, tree_, path, draft_ms);
    return {static_cast<int32_t>(path.size()), tree_.drafted(), costs.at(tree_.size()) + draft_ms};
  }

  // Tokens per plain step time.
  double speed(int32_t steps) {
    double tokens = 0, ms = 0;
    for (int32_t i = 0; i < steps; ++i) {
      const Step made = step();
      tokens += made.tokens;
      ms += made.ms;
    }
    return tokens / ms;
  }

  // Of a chain of n nodes every step, exactly.
  double fixed_speed(int32_t nodes) const {
    double tokens = 1, value = 1;
    for (int32_t i = 0; i < nodes; ++i) tokens += value *= truth;
    return tokens / (costs.at(nodes + 1) + level_ms * nodes);
  }
  double best_fixed_speed() const {
    double best = 1;
    for (int32_t n = 0; n <= 48; ++n) best = std::max(best, fixed_speed(n));
    return best;
  }

  Controller& controller() { return controller_; }

 private:
  Controller controller_;
  std::mt19937 random_;
  CostModel table_;
  DraftTree tree_;
};

}  // namespace forerun::test
