#include <algorithm>

#include "draft/tree_policy.h"

namespace forerun {

bool TreeGrower::better(int32_t a, int32_t b) const {
  return pool_[a].value != pool_[b].value ? pool_[a].value > pool_[b].value : a < b;
}

void TreeGrower::grow(TreePolicy& policy, ChildSource& source, const Budget& budget,
                      int32_t max_levels, DraftSource label, DraftTree& tree) {
  if (budget.max_nodes <= 0 || budget.max_depth <= 0) return;
  pool_.assign(1, Guess{});
  pool_[0].token = tree.token()[DraftTree::kRoot];
  frontier_.assign(1, 0);
  const int32_t levels = std::min(max_levels, budget.max_depth);
  double kept = 0.0;  // summed value of the guesses that would be kept
  for (int32_t level = 0; level < levels && !frontier_.empty(); ++level) {
    if (level > 0) {
      if (budget.enough != nullptr && *budget.enough) break;
      double reach = 0.0;
      for (const int32_t node : frontier_) reach += pool_[node].value;
      if (!source.pays(reach, budget)) break;
    }
    const int32_t level_begin = static_cast<int32_t>(pool_.size());
    source.open(pool_, frontier_);
    add_children(policy, source, budget);
    if (policy.least_gain() > 0.0) {
      rank(budget.max_nodes);
      double sum = 0.0;
      for (const int32_t i : order_) sum += pool_[i].value;
      if (level > 0 && sum - kept <= policy.least_gain()) break;
      kept = sum;
    }
    const int32_t beam = std::min(policy.beam(budget), source.most_nodes());
    choose_frontier(policy, budget, level_begin, beam);
  }
  keep_best(budget, label, tree);
}

void TreeGrower::add_children(TreePolicy& policy, ChildSource& source, const Budget& budget) {
  for (const int32_t node : frontier_) {
    if (policy.stop().reads_law()) source.law(pool_, node, law_);
    pool_[node].survival = survival(source, pool_, node);
    if (policy.stop().before_draw(pool_[node], law_)) continue;
    children_.clear();
    source.children(pool_, node, policy.width(budget, pool_[node].depth), children_);
    for (size_t rank = 0; rank < children_.size(); ++rank) {
      const int32_t r = static_cast<int32_t>(rank);
      const float q = children_[rank].score, estimate = policy.score(r, q);
      const float score = estimate > 0.0F ? std::min(estimate, 1.0F) : 0.0F;  // NaN becomes 0
      const float value = pool_[node].value * score;
      if (value < budget.min_value) continue;
      pool_.push_back({node, children_[rank].token, pool_[node].depth + 1, r, score, value, q});
    }
  }
}

void TreeGrower::rank(int32_t most) {
  const int32_t guesses = static_cast<int32_t>(pool_.size()) - 1;
  order_.resize(static_cast<size_t>(guesses));
  for (int32_t i = 0; i < guesses; ++i) order_[i] = i + 1;
  if (guesses <= most) return;
  std::nth_element(order_.begin(), order_.begin() + most - 1, order_.end(),
                   [this](int32_t a, int32_t b) { return better(a, b); });
  order_.resize(static_cast<size_t>(most));
}

void TreeGrower::choose_frontier(TreePolicy& policy, const Budget& budget, int32_t level_begin,
                                 int32_t beam) {
  // A child of value v is kept only if v is above the least value of the best max_nodes so far.
  const int32_t guesses = static_cast<int32_t>(pool_.size()) - 1;
  float cut = -1.0F;
  if (guesses >= budget.max_nodes) {
    rank(budget.max_nodes);
    cut = 1.0F;
    for (const int32_t i : order_) cut = std::min(cut, pool_[i].value);
  }
  frontier_.clear();
  for (int32_t node = level_begin; node <= guesses; ++node) {
    const bool could_be_kept = pool_[node].value * policy.best_score() > cut;
    if (could_be_kept && !policy.stop().before_open(pool_, node)) frontier_.push_back(node);
  }
  if (static_cast<int32_t>(frontier_.size()) > beam) {
    std::nth_element(frontier_.begin(), frontier_.begin() + beam, frontier_.end(),
                     [this](int32_t a, int32_t b) { return better(a, b); });
    frontier_.resize(static_cast<size_t>(beam));
    std::sort(frontier_.begin(), frontier_.end());
  }
}

void TreeGrower::keep_best(const Budget& budget, DraftSource label, DraftTree& tree) {
  rank(budget.max_nodes);
  std::sort(order_.begin(), order_.end());
  node_of_.assign(pool_.size(), DraftTree::kRoot);
  for (const int32_t i : order_) {
    node_of_[i] = tree.add(node_of_[pool_[i].parent], pool_[i].token, pool_[i].score, label);
  }
}

}  // namespace forerun
