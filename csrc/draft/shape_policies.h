#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "draft/slot_grower.h"
#include "draft/tree_policy.h"

namespace forerun {

// Policies whose shape does not depend on the guesses.

// One child per node (Leviathan et al., arXiv 2211.17192). With independent draws also several
// whole chains, sharing prefixes (SpecTr's batch, arXiv 2310.15141).
class ChainPolicy final : public TreePolicy, private SlotRules {
 public:
  ChainPolicy() = default;
  explicit ChainPolicy(Settings& settings);  // chains (1): of independent draws
  std::string name() const override { return "chain"; }
  std::unique_ptr<TreePolicy> clone() const override {
    return std::make_unique<ChainPolicy>(*this);
  }
  int32_t width(const Budget&, int32_t) const override { return 1; }
  int32_t beam(const Budget&) const override { return 1; }
  const SlotRules* slots(const DrawNeed& need) const override;

 private:
  double below(const Slot&, double) const override { return 1.0; }
  double beside(const Slot&, double, Dice&) const override { return Slot::kNever; }
  int32_t draws(const Slot& first, const Budget& budget) const override;

  int32_t chains_ = 1;
};

// The n slots with the largest product of acceptance by rank, for any n: Sequoia's tree (arXiv
// 2402.12374), since for falling rates its dynamic programme and the best-first heap agree. The
// rates are fitted from what was accepted, older outcomes fading.
class StaticPolicy final : public TreePolicy, private SlotRules {
 public:
  // rates[r]: how often the child of rank r is the right one; falling. Error(kBadArgument) when
  // empty.
  explicit StaticPolicy(std::span<const float> rates);
  void set_rates(std::span<const float> rates);  // made falling by a running minimum
  std::span<const float> rates() const { return rates_; }
  std::string name() const override { return "static"; }
  std::unique_ptr<TreePolicy> clone() const override {
    return std::make_unique<StaticPolicy>(*this);
  }
  int32_t width(const Budget& budget, int32_t depth) const override;
  float score(int32_t rank, float q) const override;
  int32_t beam(const Budget& budget) const override { return budget.max_nodes; }
  float best_score() const override { return rates_.front(); }
  const SlotRules* slots(const DrawNeed& need) const override;
  void observe(const Observation& truth, DraftSource of) override;

 private:
  double root() const override { return rates_.front(); }
  double below(const Slot& slot, double share) const override;
  double beside(const Slot& slot, double share, Dice& dice) const override;
  double cut(const Budget& budget) const override;
  int32_t most_at_depth(const Budget& budget, int32_t depth) const override;
  int32_t draws(const Slot& first, const Budget& budget) const override;
  struct Planned {
    double value;
    int32_t depth;
  };
  void plan(const Budget& budget) const;

  std::vector<float> rates_;
  std::vector<double> tried_, accepted_;  // by rank, fading
  // The best slots for the budget they were planned for, ties to the upper level; made on demand.
  mutable std::vector<Planned> planned_;
  mutable std::vector<double> reached_;
  mutable Budget planned_for_;
};

// The same number of children for every node of a level, drawn without replacement (RSD-C, Jeon et
// al., arXiv 2402.14160).
class ConstantPolicy final : public TreePolicy, private SlotRules {
 public:
  explicit ConstantPolicy(Settings& settings);  // branching ("2"): "4-2-1", the last number goes on
  std::string name() const override { return "rsd-c"; }
  std::unique_ptr<TreePolicy> clone() const override {
    return std::make_unique<ConstantPolicy>(*this);
  }
  int32_t width(const Budget& budget, int32_t depth) const override;
  int32_t beam(const Budget& budget) const override { return budget.max_nodes; }
  float score(int32_t, float q) const override { return q; }
  const SlotRules* slots(const DrawNeed& need) const override;

 private:
  double below(const Slot&, double) const override { return 1.0; }
  double beside(const Slot& slot, double share, Dice& dice) const override;
  int32_t branching(int32_t depth) const;

  std::vector<int32_t> branching_;
};

}  // namespace forerun
