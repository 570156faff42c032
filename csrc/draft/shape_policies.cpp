#include "draft/shape_policies.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace forerun {

ChainPolicy::ChainPolicy(Settings& settings)
    : chains_(static_cast<int32_t>(settings.integer("chains", 1, 1, 64))) {}

const SlotRules* ChainPolicy::slots(const DrawNeed& need) const {
  if (need.proposal == Proposal::kIndependent) return need.chain && chains_ > 1 ? nullptr : this;
  return need.proposal == Proposal::kWithoutReplacement && chains_ == 1 ? this : nullptr;
}

int32_t ChainPolicy::draws(const Slot& first, const Budget&) const {
  return first.depth == 0 ? chains_ : first.copies;
}

StaticPolicy::StaticPolicy(std::span<const float> rates) { set_rates(rates); }

void StaticPolicy::set_rates(std::span<const float> rates) {
  if (rates.empty()) {
    throw Error(ErrorKind::kBadArgument, "static tree: no acceptance rates by rank were given");
  }
  constexpr double kPriorTries = 20.0;  // how long the first rates are believed
  rates_.assign(rates.begin(), rates.end());
  tried_.assign(rates.size(), kPriorTries);
  accepted_.resize(rates.size());
  float least = 1.0F;
  for (size_t rank = 0; rank < rates_.size(); ++rank) {
    rates_[rank] = least = std::min(least, std::max(rates_[rank], 0.0F));
    accepted_[rank] = kPriorTries * rates_[rank];
  }
  planned_.clear();
}

int32_t StaticPolicy::width(const Budget& budget, int32_t) const {
  return std::min(static_cast<int32_t>(rates_.size()), budget.max_nodes);
}

float StaticPolicy::score(int32_t rank, float q) const {
  (void)q;
  return rates_[static_cast<size_t>(std::min(rank, static_cast<int32_t>(rates_.size()) - 1))];
}

const SlotRules* StaticPolicy::slots(const DrawNeed& need) const {
  const bool drawn =
      need.proposal == Proposal::kIndependent || need.proposal == Proposal::kWithoutReplacement;
  return drawn && !need.chain ? this : nullptr;
}

double StaticPolicy::below(const Slot& slot, double) const { return slot.value * rates_.front(); }

double StaticPolicy::beside(const Slot& slot, double, Dice&) const {
  const auto rank = static_cast<size_t>(slot.rank);
  return rank < rates_.size() ? slot.base * rates_[rank] : Slot::kNever;
}

// The max_nodes largest products of rates of paths within max_depth.
void StaticPolicy::plan(const Budget& budget) const {
  if (!planned_.empty() && planned_for_.max_nodes == budget.max_nodes &&
      planned_for_.max_depth == budget.max_depth) {
    return;
  }
  planned_for_ = budget;
  planned_.clear();
  reached_.assign(1, 1.0);  // the paths of a level that are among the best so far
  const auto most = static_cast<size_t>(std::max(budget.max_nodes, 1));
  for (int32_t depth = 1; depth <= budget.max_depth && !reached_.empty(); ++depth) {
    for (const double base : reached_) {
      for (const float rate : rates_) planned_.push_back({base * rate, depth});
    }
    std::sort(planned_.begin(), planned_.end(), [](const Planned& a, const Planned& b) {
      return a.value != b.value ? a.value > b.value : a.depth < b.depth;
    });
    if (planned_.size() > most) planned_.resize(most);
    reached_.clear();
    for (const Planned& slot : planned_) {
      if (slot.depth == depth) reached_.push_back(slot.value);
    }
  }
}

double StaticPolicy::cut(const Budget& budget) const {
  plan(budget);
  return planned_.back().value;
}

int32_t StaticPolicy::most_at_depth(const Budget& budget, int32_t depth) const {
  plan(budget);
  return static_cast<int32_t>(
      std::count_if(planned_.begin(), planned_.end(),
                    [depth](const Planned& slot) { return slot.depth == depth; }));
}

int32_t StaticPolicy::draws(const Slot& first, const Budget& budget) const {
  const double least = cut(budget);
  return static_cast<int32_t>(std::count_if(
      rates_.begin(), rates_.end(), [&](float rate) { return first.base * rate >= least; }));
}

// Of each accepted node, which of its children was accepted, if any.
void StaticPolicy::observe(const Observation& truth, DraftSource of) {
  constexpr double kMemory = 400.0;  // tries
  const DraftTree& tree = *truth.tree;
  for (size_t i = 0; i < truth.path.size(); ++i) {
    const int32_t next = i + 1 < truth.path.size() ? truth.path[i + 1] : -1;
    size_t rank = 0;
    for (int32_t node = truth.path[i] + 1; node < tree.size() && rank < rates_.size(); ++node) {
      if (tree.parent()[node] != truth.path[i] || tree.source()[node] != of) {
        continue;
      }
      tried_[rank] += 1.0;
      accepted_[rank] += node == next ? 1.0 : 0.0;
      if (tried_[rank] > kMemory) {
        accepted_[rank] *= kMemory / tried_[rank];
        tried_[rank] = kMemory;
      }
      ++rank;
    }
  }
  float least = 1.0F;
  for (size_t rank = 0; rank < rates_.size(); ++rank) {
    rates_[rank] = least = std::min(least, static_cast<float>(accepted_[rank] / tried_[rank]));
  }
  planned_.clear();
}

ConstantPolicy::ConstantPolicy(Settings& settings) {
  const std::string text = settings.text("branching", "2");
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find('-', at), text.size());
    int32_t children = 0;
    const auto read = std::from_chars(text.data() + at, text.data() + end, children);
    if (read.ec != std::errc() || read.ptr != text.data() + end || children < 1 || children > 64) {
      throw Error(ErrorKind::kBadArgument,
                  "option rsd-c.branching is '" + text +
                      "', expected children per level such as 4-2-1, each 1 to 64");
    }
    branching_.push_back(children);
    at = end + 1;
  }
}

int32_t ConstantPolicy::branching(int32_t depth) const {
  return branching_[std::min(static_cast<size_t>(depth), branching_.size() - 1)];
}

int32_t ConstantPolicy::width(const Budget& budget, int32_t depth) const {
  return std::min(branching(depth), budget.max_nodes);
}

const SlotRules* ConstantPolicy::slots(const DrawNeed& need) const {
  return need.proposal == Proposal::kWithoutReplacement && !need.chain ? this : nullptr;
}

double ConstantPolicy::beside(const Slot& slot, double, Dice&) const {
  return slot.rank < branching(slot.depth) ? 1.0 : Slot::kNever;
}

}  // namespace forerun
