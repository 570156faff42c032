#pragma once

#include <algorithm>
#include <cmath>
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
    for (const int32_t rows : {1, 2, 4, 8, 16, 32, 64}) costs.set(rows, at(rows));
    return costs;
  }
};

// Decoding in virtual time with a chain drafter: a node that claims `score` is accepted with
// probability truth() given its parent. Times are in plain steps.
class Simulation {
 public:
  double score = 0.7;
  double truth = 0.7;
  std::function<double(int32_t token)> truth_at;  // instead of truth
  double level_ms = 0.0;                          // draft time per node, declared
  double hidden_ms = 0.0;                         // draft time per proposal, not declared
  double start_ms = 0.0;                          // before the first proposal
  double noise = 0.0;                             // steps take up to this share longer
  double drift = 0.0;                             // ... and up to this, slowly changing
  double stumbles = 0.0;                          // share of steps that take ten times as long
  int32_t room = 1000;                            // tokens that the request still asks for
  DraftSource source = DraftSource::kModel;
  SimulatedCosts costs;
  std::function<double(int32_t rows)> believed;  // table at the start, if not the truth
  std::function<bool()> proposes = [] { return true; };

  explicit Simulation(uint32_t seed, Controller controller = Controller{})
      : controller_(std::move(controller)), random_(seed) {}

  // Another request on the same engine.
  void next_request() {
    known_.observe_answer(tokens_);
    controller_ = Controller{};
    started_ = false;
    tokens_ = 0;
  }

  struct Step {
    int32_t tokens = 0, nodes = 0;
    double ms = 0.0;  // without noise
    bool asked = false;
  };

  Step step() {
    set_up();
    const Load plain{1, 0.0, 0.0};
    Controller::Offer offer{source, started_ ? 0.0 : start_ms,
                            [this](int32_t nodes) { return level_ms * nodes; }};
    const bool costly = level_ms > 0.0 || start_ms > 0.0;
    const std::span<const Controller::Offer> offers(&offer, costly ? 1U : 0U);
    const auto allowed = controller_.allowance(known_, {plain, 0, room - tokens_ - 1}, offers);
    const int32_t most = costly ? allowed.asked_nodes : allowed.max_nodes;
    tree_.reset(0);
    const bool asked = most > 0 && proposes();
    const int32_t deepest = costly ? allowed.asked_depth : allowed.max_depth;
    const int32_t length = asked ? std::min(most, deepest) : 0;
    for (int32_t i = 0, node = 0; i < length; ++i) {
      node = tree_.add(node, 1, static_cast<float>(score), source);
    }
    double draft_ms = asked ? level_ms * length + hidden_ms : 0.0;
    if (asked && !started_) {
      draft_ms += start_ms;
      started_ = true;
    }
    const TreeFitter::Entry entry{&controller_, &tree_, 0, room, draft_ms};
    fitter_.fit(known_, plain, {&entry, 1}, 127);

    std::vector<int32_t> path = {0}, emitted = {-1};
    bool alive = true;
    for (int32_t i = 1; alive && i <= std::max(length, 1); ++i) {
      alive = std::bernoulli_distribution(truth_at ? truth_at(tokens_ + i - 1) : truth)(random_);
      emitted.back() = alive ? 1 : 2;
      if (!alive || i >= tree_.size()) break;
      path.push_back(i);
      emitted.push_back(2);
    }
    const double verify_ms = costs.at(tree_.size());
    const Load load{tree_.size(), 0.0, 0.0};
    known_.observe_forward(load, verify_ms * slowness(), tree_.drafted() == 0);
    controller_.observe(known_, tree_, path, emitted,
                        {plain, load, verify_ms * last_slowness_, 1.0, draft_ms * slowness(), 0.0});
    tokens_ += static_cast<int32_t>(path.size());
    return {static_cast<int32_t>(path.size()), tree_.drafted(), verify_ms + draft_ms, asked};
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

  // Plain steps by which the worst stretch of `window` tokens or a little more is behind plain
  // decoding, in a run of so many tokens.
  double worst_loss(int32_t tokens, int32_t window) {
    std::vector<Step> steps;
    for (int32_t done = 0; done < tokens; done += steps.back().tokens) steps.push_back(step());
    double worst = 0.0, loss = 0.0;
    int32_t inside = 0;
    for (size_t first = 0, last = 0; last < steps.size(); ++last) {
      inside += steps[last].tokens;
      loss += steps[last].ms - steps[last].tokens;
      while (inside - steps[first].tokens >= window) {
        inside -= steps[first].tokens;
        loss -= steps[first].ms - steps[first].tokens;
        ++first;
      }
      if (inside >= window) worst = std::max(worst, loss);
    }
    return worst;
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
  Experience& known() { return known_; }

 private:
  void set_up() {
    if (known_.costs.measured()) return;
    for (const int32_t rows : {1, 2, 4, 8, 16, 32, 64}) {
      known_.costs.set(rows, believed ? believed(rows) : costs.at(rows));
    }
  }
  double slowness() {
    last_slowness_ = 1.0 + noise * std::uniform_real_distribution<>()(random_) +
                     drift * (0.5 + 0.5 * std::sin(tokens_ / 40.0));
    if (std::bernoulli_distribution(stumbles)(random_)) last_slowness_ *= 10.0;
    return last_slowness_;
  }

  Controller controller_;
  std::mt19937 random_;
  Experience known_;
  TreeFitter fitter_;
  DraftTree tree_;
  bool started_ = false;
  int32_t tokens_ = 0;
  double last_slowness_ = 1.0;
};

}  // namespace forerun::test
