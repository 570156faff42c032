#include "sched/controller.h"

#include <algorithm>
#include <iterator>

namespace forerun {
namespace {

// Upper edges of the score bins: about even on the scale of log(p / (1 - p)), finest where long
// chains live.
constexpr float kEdges[] = {0.005F, 0.015F, 0.03F, 0.06F, 0.1F,  0.17F, 0.27F, 0.4F,
                            0.53F,  0.66F,  0.77F, 0.86F, 0.92F, 0.96F, 0.985F};
constexpr double kPriorTries = 3.0;    // how long the drafter's own score is believed
constexpr double kMemoryTries = 64.0;  // older outcomes fade
constexpr double kProfileMove = 0.1;
constexpr int32_t kStretchEvery = 8;
constexpr double kProfilePrior = 0.7;  // first profile: the i-th best node has 0.7^i
constexpr double kScoreMargin = 0.2;   // raw scores may be this pessimistic

}  // namespace

Controller::Controller(Limits limits) : limits_(limits) {
  limits_.max_nodes = std::clamp(limits_.max_nodes, 0, CostModel::kMaxRows - 1);
  limits_.fixed_nodes = std::min(limits_.fixed_nodes, CostModel::kMaxRows - 1);
  double value = 1.0;
  profile_.resize(static_cast<size_t>(limits_.max_nodes));
  for (double& entry : profile_) entry = value *= kProfilePrior;
  reserve();
}

void Controller::reserve() {
  const size_t nodes = static_cast<size_t>(CostModel::kMaxRows);
  values_.reserve(nodes);
  ranked_.reserve(nodes);
  pruner_.reserve(CostModel::kMaxRows);
}

int Controller::bin_of(float score) {
  return static_cast<int>(std::upper_bound(std::begin(kEdges), std::end(kEdges), score) -
                          std::begin(kEdges));
}

Controller::Bin& Controller::bin(DraftSource source, float score) {
  return bins_[static_cast<size_t>(source)][static_cast<size_t>(bin_of(score))];
}

double Controller::acceptance(DraftSource source, float score) const {
  const Bin& seen = bins_[static_cast<size_t>(source)][static_cast<size_t>(bin_of(score))];
  const double prior = kPriorTries * (1.0 - seen.tried / kMemoryTries);
  return (seen.accepted + prior * score) / (seen.tried + prior);
}

void Controller::calibrated_values(const DraftTree& tree) {
  values_.resize(static_cast<size_t>(tree.size()));
  values_[DraftTree::kRoot] = 1.0F;
  for (int32_t node = 1; node < tree.size(); ++node) {
    values_[node] = values_[tree.parent()[node]] *
                    static_cast<float>(acceptance(tree.source()[node], tree.score()[node]));
  }
  ranked_.clear();
  for (const int32_t node : pruner_.order(tree, values_)) ranked_.push_back(values_[node]);
}

Controller::Choice Controller::best_size(const CostModel& costs, std::span<const double> values,
                                         const DraftMs& draft_ms) const {
  Choice choice;
  choice.rate = 1.0 / (costs.verify_ms(1) + draft_ms(0));
  double tokens = 1.0, some_rate = 0.0;
  for (int32_t n = 1; n <= static_cast<int32_t>(values.size()); ++n) {
    tokens += values[n - 1];
    const double rate = tokens / (costs.verify_ms(n + 1) + draft_ms(n));
    if (rate > some_rate) {
      some_rate = rate;
      choice.at_least_one = n;
    }
  }
  if (some_rate > choice.rate) {
    choice.rate = some_rate;
    choice.nodes = choice.at_least_one;
  }
  return choice;
}

int32_t Controller::affordable(const CostModel& costs, const DraftMs& draft_ms,
                               int32_t most) const {
  if (!may_speculate()) return 0;
  const double limit = (1.0 + account_ + kMaxDebt) * costs.verify_ms(1);
  while (most > 0 && costs.verify_ms(most + 1) + draft_ms(most) > limit) --most;
  return most;
}

Controller::Allowance Controller::allowance(const CostModel& costs, int32_t room,
                                            const DraftMs& draft_ms) {
  asked_nodes_ = 0;
  if (room <= 0) return {};
  if (limits_.fixed_nodes >= 0) return {limits_.fixed_nodes, room, 0.0F, 0.0};
  if (!costs.measured() || limits_.max_nodes == 0 || !may_speculate()) return {};

  const Choice expected = best_size(costs, profile_, draft_ms);
  int32_t nodes = limits_.max_nodes;
  if (draft_ms(nodes) > 0.0) {  // a table look-up costs nothing: ask it for all, then fit
    if (expected.nodes == 0 && until_probe_ > 0) return {};
    nodes = expected.at_least_one;
    // Now and then a little more, to learn what a larger tree would bring.
    if (expected.nodes > 0 && ++asked_ % kStretchEvery == 0) nodes += 1 + nodes / 4;
    nodes = affordable(costs, draft_ms, std::min(nodes, limits_.max_nodes));
    if (nodes == 0) return {};
  }
  asked_nodes_ = nodes;
  const double slope = (costs.verify_ms(nodes + 1) - costs.verify_ms(1)) / nodes;
  return {nodes, room, static_cast<float>(kScoreMargin * slope * expected.rate), expected.rate};
}

// The values of this proposal go into the average; sizes that were never asked for are guessed to
// fall on as the last two that were.
void Controller::learn_profile(int32_t drafted) {
  if (asked_nodes_ == 0) return;
  for (int32_t i = 0; i < asked_nodes_; ++i) {
    const double value = i < drafted ? ranked_[i] : 0.0;
    profile_[i] += (i < known_nodes_ ? kProfileMove : 1.0) * (value - profile_[i]);
  }
  known_nodes_ = std::max(known_nodes_, asked_nodes_);
  const double last = profile_[known_nodes_ - 1];
  const double before = known_nodes_ > 1 ? profile_[known_nodes_ - 2] : 1.0;
  const double fall = before > 0.0 ? std::min(last / before, 1.0) : 0.0;
  for (size_t i = static_cast<size_t>(known_nodes_); i < profile_.size(); ++i) {
    profile_[i] = profile_[i - 1] * fall;
  }
}

void Controller::fit(const CostModel& costs, double draft_ms, DraftTree& tree) {
  if (limits_.fixed_nodes >= 0) {
    pruner_.keep_best(tree, limits_.fixed_nodes);
    return;
  }
  calibrated_values(tree);
  if (draft_ms > 0.0) learn_profile(tree.drafted());
  if (tree.sampled()) return;  // its size was decided before its nodes were drawn
  const DraftMs spent = [draft_ms](int32_t) { return draft_ms; };
  const int32_t most = affordable(costs, spent, std::min(tree.drafted(), limits_.max_nodes));
  int32_t nodes = 0;
  if (costs.measured()) {
    const std::span<const double> values = std::span(ranked_).first(static_cast<size_t>(most));
    const Choice choice = best_size(costs, values, spent);
    nodes = choice.nodes;
    if (nodes == 0 && until_probe_ <= 0) nodes = std::min(choice.at_least_one, kProbeNodes);
  }
  pruner_.keep_best(tree, values_, nodes);
}

void Controller::observe(const CostModel& costs, const DraftTree& tree,
                         std::span<const int32_t> path, double draft_ms) {
  const auto accepted = [&](int32_t node) {
    return std::binary_search(path.begin(), path.end(), node);
  };
  for (int32_t node = 1; node < tree.size(); ++node) {
    if (!accepted(tree.parent()[node])) continue;
    Bin& seen = bin(tree.source()[node], tree.score()[node]);
    seen.tried += 1.0;
    seen.accepted += accepted(node) ? 1.0 : 0.0;
    if (seen.tried > kMemoryTries) {
      seen.accepted *= kMemoryTries / seen.tried;
      seen.tried = kMemoryTries;
    }
  }
  if (!costs.measured() || limits_.fixed_nodes >= 0) return;
  const double plain = costs.verify_ms(1);
  const double spent = (costs.verify_ms(tree.size()) + draft_ms) / plain;
  const double won = static_cast<double>(path.size()) - spent;
  account_ = std::min(account_ + won + kAllowedLoss, kMaxCredit);
  if (tree.drafted() == 0) {
    --until_probe_;
    return;
  }
  const bool paid = won >= 0.0;
  probe_interval_ =
      paid ? std::max(probe_interval_ / 8, 1)
           : std::min(std::max(2 * probe_interval_, kFirstInterval), kMaxProbeInterval);
  until_probe_ = paid ? 0 : probe_interval_;
}

}  // namespace forerun
