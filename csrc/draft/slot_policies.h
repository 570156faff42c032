#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "draft/slot_grower.h"
#include "draft/tree_policy.h"

namespace forerun {

// Policies whose shape follows q. Children are drawn for ratio verifiers; under match, and at
// temperature 0, the best children by q stand in for the draws.

// DySpec (arXiv 2410.11744): the slot that a draw is most likely to reach is filled next. A slot
// whose token had `share` of what was left passes value * share to the token's first child and
// value * (1 - share) to the next sibling. Heap form: always the best slot. Threshold form: level
// by level all slots above a threshold, a draft forward per level. The paper's renumbering of nodes
// for block-sparse attention has no use here: a row gathers its ancestors, not a block of a mask.
class DyspecPolicy final : public TreePolicy, private SlotRules {
 public:
  DyspecPolicy() = default;
  // form ("threshold" or "heap"), threshold (0: 1 / budget).
  explicit DyspecPolicy(Settings& settings);
  std::string name() const override { return "dyspec"; }
  std::unique_ptr<TreePolicy> clone() const override {
    return std::make_unique<DyspecPolicy>(*this);
  }
  int32_t width(const Budget& budget, int32_t) const override { return budget.max_nodes; }
  int32_t beam(const Budget& budget) const override { return budget.max_nodes; }
  const SlotRules* slots(const DrawNeed& need) const override;

 private:
  double below(const Slot& slot, double share) const override { return slot.value * share; }
  double beside(const Slot& slot, double share, Dice&) const override {
    return slot.value * (1.0 - share);
  }
  double cut(const Budget& budget) const override;
  bool best_first() const override { return heap_; }

  bool heap_ = false;
  double threshold_ = 0.0;
};

// Stochastic beam search (RSD-S, arXiv 2402.14160; Kool et al., arXiv 1903.06059): each level keeps
// the `beam` paths with the largest Gumbel-perturbed log-probability. A node's best child has its
// perturbed value; the next is a Gumbel of location log(what is left) truncated at the last, drawn
// before the child's token is. This is the law of perturbing all children and shifting them under
// their parent's value, without that shift's cancellation: the logarithm is of a sum of positives.
class StochasticBeamPolicy final : public TreePolicy, private SlotRules {
 public:
  explicit StochasticBeamPolicy(Settings& settings);  // beam (4)
  std::string name() const override { return "rsd-s"; }
  std::unique_ptr<TreePolicy> clone() const override {
    return std::make_unique<StochasticBeamPolicy>(*this);
  }
  int32_t width(const Budget& budget, int32_t) const override;
  int32_t beam(const Budget& budget) const override { return width(budget, 0); }
  const SlotRules* slots(const DrawNeed& need) const override;

 private:
  double root() const override { return 0.0; }
  double below(const Slot& slot, double) const override { return slot.value; }
  double beside(const Slot& slot, double share, Dice& dice) const override;
  double cut(const Budget&) const override { return Slot::kNever; }
  int32_t most_at_depth(const Budget&, int32_t) const override { return beam_; }

  int32_t beam_;
};

// The n - 1 most likely children and one drawn from the others (Hu et al., arXiv 2502.18779); nodes
// grow level by level while they are reached with at least 1 / budget.
class GreedyDraftPolicy final : public TreePolicy, private SlotRules {
 public:
  GreedyDraftPolicy() = default;
  explicit GreedyDraftPolicy(Settings& settings);  // children (3)
  std::string name() const override { return "greedy-draft"; }
  std::unique_ptr<TreePolicy> clone() const override {
    return std::make_unique<GreedyDraftPolicy>(*this);
  }
  int32_t width(const Budget& budget, int32_t) const override;
  int32_t beam(const Budget& budget) const override { return budget.max_nodes; }
  const SlotRules* slots(const DrawNeed& need) const override;

 private:
  double below(const Slot& slot, double share) const override { return slot.value * share; }
  double beside(const Slot&, double, Dice&) const override { return Slot::kNever; }
  double cut(const Budget& budget) const override;
  int32_t draws(const Slot&, const Budget& budget) const override { return width(budget, 0); }

  int32_t children_ = 3;
};

// What fits: eagle2 at temperature 0, gumbel above it under verifiers that take any tree; for the
// others chain, static (independent draws), dyspec (without replacement) or greedy-draft.
class AutoPolicy final : public TreePolicy {
 public:
  // Whose options it reads, but for their stop: its own is used.
  static constexpr std::string_view kChoices[] = {"chain", "static", "dyspec", "greedy-draft"};

  AutoPolicy(int32_t top_k, const MethodOptions& options);
  AutoPolicy(const AutoPolicy& other);
  std::string name() const override { return "auto"; }
  std::unique_ptr<TreePolicy> clone() const override { return std::make_unique<AutoPolicy>(*this); }
  int32_t width(const Budget& budget, int32_t depth) const override {
    return chosen_->width(budget, depth);
  }
  int32_t beam(const Budget& budget) const override { return chosen_->beam(budget); }
  const SlotRules* slots(const DrawNeed& need) const override;
  void observe(const Observation& truth, DraftSource of) override {
    independent_->observe(truth, of);
  }

 private:
  std::unique_ptr<TreePolicy> chosen_, chain_, independent_, removed_, top_and_sample_;
};

}  // namespace forerun
