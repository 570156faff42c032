#include "draft/tree_policy.h"

#include <algorithm>

#include "base/error.h"

namespace forerun {
namespace {

constexpr Method kMethods[] = {
    {"chain", "one child per node", "arXiv 2211.17192"},
    {"static", "the same shape every step, from acceptance by rank", "arXiv 2402.12374"},
    {"dynamic", "the nodes with the largest product of draft probabilities",
     "arXiv 2406.16858, 2406.17276"},
};

}  // namespace

std::span<const Method> policy_methods() { return kMethods; }

StaticPolicy::StaticPolicy(std::span<const float> rates) { set_rates(rates); }

void StaticPolicy::set_rates(std::span<const float> rates) {
  if (rates.empty()) {
    throw Error(ErrorKind::kBadArgument, "static tree: no acceptance rates by rank were given");
  }
  rates_.assign(rates.begin(), rates.end());
  float least = 1.0F;
  for (float& rate : rates_) rate = least = std::min(least, std::max(rate, 0.0F));
}

int32_t StaticPolicy::width(const Budget& budget) const {
  return std::min(static_cast<int32_t>(rates_.size()), budget.max_nodes);
}

float StaticPolicy::score(int32_t rank, float q) const {
  (void)q;
  return rates_[static_cast<size_t>(std::min(rank, static_cast<int32_t>(rates_.size()) - 1))];
}

DynamicPolicy::DynamicPolicy(int32_t top_k) : top_k_(top_k) {
  if (top_k < 1) {
    throw Error(ErrorKind::kBadArgument,
                "dynamic tree: top_k is " + std::to_string(top_k) + ", expected at least 1");
  }
}

int32_t DynamicPolicy::width(const Budget& budget) const {
  return std::min(top_k_, budget.max_nodes);
}

std::unique_ptr<TreePolicy> make_policy(const std::string& name, int32_t top_k) {
  // Rank acceptance of a draft model a tenth of the target's size, as Medusa's and EAGLE's static
  // trees assume.
  constexpr float kModelRates[] = {0.65F, 0.12F, 0.05F, 0.03F, 0.02F, 0.012F, 0.008F, 0.006F};
  if (name == "chain") return std::make_unique<ChainPolicy>();
  if (name == "static") return std::make_unique<StaticPolicy>(kModelRates);
  if (name == "dynamic") return std::make_unique<DynamicPolicy>(top_k);
  std::string names;
  for (const Method& method : kMethods) {
    names += std::string(names.empty() ? "" : ", ") + method.name;
  }
  throw Error(ErrorKind::kBadArgument,
              "unknown tree policy '" + name + "', expected one of " + names);
}

bool TreeGrower::better(int32_t a, int32_t b) const {
  return pool_[a].value != pool_[b].value ? pool_[a].value > pool_[b].value : a < b;
}

void TreeGrower::grow(const TreePolicy& policy, ChildSource& source, const Budget& budget,
                      int32_t max_levels, DraftSource label, DraftTree& tree) {
  if (budget.max_nodes <= 0 || budget.max_depth <= 0) return;
  pool_.assign(1, Guess{});
  pool_[0].token = tree.token()[DraftTree::kRoot];
  frontier_.assign(1, 0);
  const int32_t levels = std::min(max_levels, budget.max_depth);
  for (int32_t level = 0; level < levels && !frontier_.empty(); ++level) {
    if (level > 0) {
      double reach = 0.0;
      for (const int32_t node : frontier_) reach += pool_[node].value;
      if (!source.pays(reach, budget)) break;
    }
    const int32_t level_begin = static_cast<int32_t>(pool_.size());
    source.open(pool_, frontier_);
    add_children(policy, source, budget);
    const int32_t beam = std::min(policy.beam(budget), source.most_nodes());
    choose_frontier(policy, budget, level_begin, beam);
  }
  keep_best(budget, label, tree);
}

void TreeGrower::add_children(const TreePolicy& policy, ChildSource& source, const Budget& budget) {
  const int32_t width = policy.width(budget);
  for (const int32_t node : frontier_) {
    children_.clear();
    source.children(pool_, node, width, children_);
    for (size_t rank = 0; rank < children_.size(); ++rank) {
      const int32_t r = static_cast<int32_t>(rank);
      const float estimate = policy.score(r, children_[rank].score);
      const float score = estimate > 0.0F ? std::min(estimate, 1.0F) : 0.0F;  // NaN becomes 0
      const float value = pool_[node].value * score;
      if (value < budget.min_value) continue;
      pool_.push_back({node, children_[rank].token, pool_[node].depth + 1, r, score, value});
    }
  }
}

void TreeGrower::choose_frontier(const TreePolicy& policy, const Budget& budget,
                                 int32_t level_begin, int32_t beam) {
  // A child of value v is kept only if v is above the least value of the best max_nodes so far.
  const int32_t guesses = static_cast<int32_t>(pool_.size()) - 1;
  float cut = -1.0F;
  if (guesses >= budget.max_nodes) {
    order_.resize(static_cast<size_t>(guesses));
    for (int32_t i = 0; i < guesses; ++i) order_[i] = i + 1;
    const auto last = order_.begin() + budget.max_nodes - 1;
    std::nth_element(order_.begin(), last, order_.end(),
                     [this](int32_t a, int32_t b) { return better(a, b); });
    cut = pool_[*last].value;
  }
  frontier_.clear();
  for (int32_t node = level_begin; node <= guesses; ++node) {
    if (pool_[node].value * policy.best_score() > cut) frontier_.push_back(node);
  }
  if (static_cast<int32_t>(frontier_.size()) > beam) {
    std::nth_element(frontier_.begin(), frontier_.begin() + beam, frontier_.end(),
                     [this](int32_t a, int32_t b) { return better(a, b); });
    frontier_.resize(static_cast<size_t>(beam));
    std::sort(frontier_.begin(), frontier_.end());
  }
}

void TreeGrower::keep_best(const Budget& budget, DraftSource label, DraftTree& tree) {
  const int32_t guesses = static_cast<int32_t>(pool_.size()) - 1;
  order_.resize(static_cast<size_t>(guesses));
  for (int32_t i = 0; i < guesses; ++i) order_[i] = i + 1;
  if (guesses > budget.max_nodes) {
    std::nth_element(order_.begin(), order_.begin() + budget.max_nodes, order_.end(),
                     [this](int32_t a, int32_t b) { return better(a, b); });
    order_.resize(static_cast<size_t>(budget.max_nodes));
    std::sort(order_.begin(), order_.end());
  }
  node_of_.assign(pool_.size(), DraftTree::kRoot);
  for (const int32_t i : order_) {
    node_of_[i] = tree.add(node_of_[pool_[i].parent], pool_[i].token, pool_[i].score, label);
  }
}

}  // namespace forerun
