#include "draft_replay.h"

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <memory>

#include "draft/factory.h"
#include "sched/controller.h"
#include "tree/prune.h"

namespace forerun::bench {
namespace {

constexpr int32_t kVocab = 1 << 18;
constexpr int32_t kMostNodes = 127;
constexpr Load kPlain{1, 0.0, 0.0};
constexpr int64_t kAhead = 2;  // a rejected guess was recorded up to so much later

const DraftTrace::Row* ranking(const DraftTrace& trace, int64_t position, int32_t token,
                               bool on_path) {
  if (on_path) {
    const auto exact = trace.on_path.find(position);
    return exact == trace.on_path.end() ? nullptr : &exact->second;
  }
  const auto rows = trace.by_token.find(token);
  if (rows == trace.by_token.end()) return nullptr;
  const DraftTrace::Row* best = nullptr;
  int64_t distance = INT64_MAX;
  for (const DraftTrace::Seen& seen : rows->second) {
    // The path's own future would tell the drafter the answer.
    if (seen.position > position + (seen.on_path ? 0 : kAhead)) continue;
    if (std::abs(seen.position - position) >= distance) continue;
    distance = std::abs(seen.position - position);
    best = &seen.row;
  }
  return best;
}

// One answer, step by step.
class Request {
 public:
  Request(const DraftTrace& trace, Drafter& drafter, const Replay& replay, Experience& known)
      : trace_(trace),
        drafter_(drafter),
        replay_(replay),
        known_(known),
        controller_({replay.most, replay.fixed}) {}

  void run(ReplaySums& sums) {
    context_ = trace_.prompt;
    drafter_.begin(context_);
    double cost = 0.0;
    while (done_ < trace_.output.size()) {
      const auto start = std::chrono::steady_clock::now();
      tree_.reset(context_.back());
      propose();
      walk();
      observe();
      sums.draft_us +=
          std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
              .count();
      cost += known_.costs.verify_ms(tree_.size());
      sums.steps += 1;
      sums.nodes += tree_.drafted();
    }
    std::vector<uint8_t> emitted(context_.size());
    for (size_t i = trace_.prompt.size(); i < emitted.size(); ++i) emitted[i] = 1;
    drafter_.finish(context_, emitted);
    known_.observe_answer(static_cast<double>(trace_.output.size()));
    const double tokens = static_cast<double>(trace_.output.size());
    sums.tokens += static_cast<int64_t>(trace_.output.size());
    sums.cost += cost;
    sums.log_gain += std::log(tokens / cost);
    sums.answers += 1;
  }

 private:
  void propose() {
    const auto left = static_cast<int32_t>(trace_.output.size() - done_) - 1;
    if (left <= 0) return;
    Budget budget{replay_.fixed, left};
    if (replay_.fixed < 0) {
      const auto allowed = controller_.allowance(known_, {kPlain, 0, left}, {});
      budget.max_nodes = allowed.max_nodes;
      budget.max_depth = allowed.max_depth;
      budget.min_value = allowed.min_value;
      budget.tokens_per_ms = allowed.tokens_per_ms;
    }
    if (budget.max_nodes <= 0) return;
    drafter_.propose(context_, budget, {}, tree_);
    const TreeFitter::Entry entry{&controller_, &tree_, 0, left, 0.0};
    fitter_.fit(known_, kPlain, {&entry, 1}, kMostNodes);
  }

  void walk() {
    path_.assign(1, DraftTree::kRoot);
    bonus_ = trace_.output[done_++];
    for (int32_t child = tree_.child_with(path_.back(), bonus_); child >= 0;
         child = tree_.child_with(path_.back(), bonus_)) {
      path_.push_back(child);
      if (done_ == trace_.output.size()) break;
      bonus_ = trace_.output[done_++];
    }
  }

  void observe() {
    Observation truth{&tree_, path_, bonus_, {}, drafter_.wanted_topk()};
    rows_.assign(static_cast<size_t>(tree_.size() * truth.k), -1);
    std::vector<uint8_t> on_path(static_cast<size_t>(tree_.size()));
    for (const int32_t node : path_) on_path[static_cast<size_t>(node)] = 1;
    for (int32_t node = 0; node < tree_.size() && truth.k > 0; ++node) {
      const size_t at = static_cast<size_t>(node);
      const auto position = static_cast<int64_t>(context_.size()) - 1 + tree_.depth()[at];
      const auto* row = ranking(trace_, position, tree_.token()[at], on_path[at] != 0);
      for (int32_t i = 0; row != nullptr && i < truth.k && i < DraftTrace::kRanks; ++i) {
        rows_[at * static_cast<size_t>(truth.k) + static_cast<size_t>(i)] =
            (*row)[static_cast<size_t>(i)];
      }
    }
    truth.node_topk = rows_;
    for (size_t i = 1; i < path_.size(); ++i) {
      context_.push_back(tree_.token()[static_cast<size_t>(path_[i])]);
    }
    if (context_.size() < trace_.prompt.size() + trace_.output.size()) context_.push_back(bonus_);
    drafter_.observe(context_, truth);
    emitted_.clear();
    for (size_t i = 1; i < path_.size(); ++i) {
      emitted_.push_back(tree_.token()[static_cast<size_t>(path_[i])]);
    }
    emitted_.push_back(bonus_);
    const Load load{tree_.size(), 0.0, 0.0};
    const double ms = known_.costs.verify_ms(load);
    known_.observe_forward(load, ms, tree_.drafted() == 0);
    controller_.observe(known_, tree_, path_, emitted_, {kPlain, load, ms});
  }

  const DraftTrace& trace_;
  Drafter& drafter_;
  const Replay& replay_;
  Experience& known_;
  Controller controller_;
  TreeFitter fitter_;
  std::vector<int32_t> context_, path_, rows_, emitted_;
  size_t done_ = 0;
  int32_t bonus_ = -1;
  DraftTree tree_;
};

}  // namespace

std::map<std::string, ReplaySums> replay(const Replay& replay, std::vector<DraftTrace>& traces) {
  DraftPlan plan = parse_draft(replay.draft, replay.options);
  DraftResources resources;
  resources.vocab = kVocab;
  resources.prepare(plan);
  Experience known;
  known.costs.set(1, 1.0);
  for (size_t i = 0; i < replay.costs.size(); ++i) known.costs.set(2 << i, replay.costs[i]);
  std::map<std::string, ReplaySums> sums;
  for (const DraftTrace& trace : traces) {
    if (trace.output.empty()) continue;
    const auto drafter = make_drafter(plan, resources);
    Request(trace, *drafter, replay, known).run(sums[trace.category]);
  }
  return sums;
}

}  // namespace forerun::bench
