#include "draft/slot_policies.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/math.h"
#include "draft/beam_policies.h"
#include "draft/shape_policies.h"

namespace forerun {
namespace {

double one_in_budget(const Budget& budget) { return 1.0 / std::max(budget.max_nodes, 1); }

}  // namespace

DyspecPolicy::DyspecPolicy(Settings& settings)
    : threshold_(settings.real("threshold", 0.0, 0.0, 1.0)) {
  const std::string form = settings.text("form", "threshold");
  if (form != "threshold" && form != "heap") {
    throw Error(ErrorKind::kBadArgument,
                "option dyspec.form is '" + form + "', expected threshold or heap");
  }
  heap_ = form == "heap";
}

const SlotRules* DyspecPolicy::slots(const DrawNeed& need) const {
  return need.proposal == Proposal::kWithoutReplacement && !need.chain ? this : nullptr;
}

double DyspecPolicy::cut(const Budget& budget) const {
  if (heap_) return threshold_;
  return threshold_ > 0.0 ? threshold_ : one_in_budget(budget);
}

StochasticBeamPolicy::StochasticBeamPolicy(Settings& settings)
    : beam_(static_cast<int32_t>(settings.integer("beam", 4, 1, 64))) {}

int32_t StochasticBeamPolicy::width(const Budget& budget, int32_t) const {
  return std::min(beam_, budget.max_nodes);
}

const SlotRules* StochasticBeamPolicy::slots(const DrawNeed& need) const {
  return need.proposal == Proposal::kWithoutReplacement && !need.chain ? this : nullptr;
}

// exp(-exp(location - g)) / exp(-exp(location - last)) = u solved for g.
double StochasticBeamPolicy::beside(const Slot& slot, double, Dice& dice) const {
  const double location = slot.log_path + exact_log(slot.left);
  const double waiting = -exact_log(dice.uniform());
  return location - exact_log(waiting + exact_exp(location - slot.value));
}

GreedyDraftPolicy::GreedyDraftPolicy(Settings& settings)
    : children_(static_cast<int32_t>(settings.integer("children", 3, 1, 64))) {}

int32_t GreedyDraftPolicy::width(const Budget& budget, int32_t) const {
  return std::min(children_, budget.max_nodes);
}

const SlotRules* GreedyDraftPolicy::slots(const DrawNeed& need) const {
  return need.proposal == Proposal::kTopAndSample && !need.chain ? this : nullptr;
}

double GreedyDraftPolicy::cut(const Budget& budget) const { return one_in_budget(budget); }

AutoPolicy::AutoPolicy(int32_t top_k, const MethodOptions& options)
    : chosen_(std::make_unique<BeamPolicy>("gumbel", BeamPolicy::Shape{top_k, 0.0, true})),
      chain_(make_policy("chain", top_k, options)),
      independent_(make_policy("static", top_k, options)),
      removed_(make_policy("dyspec", top_k, options)),
      top_and_sample_(make_policy("greedy-draft", top_k, options)) {}

AutoPolicy::AutoPolicy(const AutoPolicy& other)
    : TreePolicy(other),
      chosen_(other.chosen_->clone()),
      chain_(other.chain_->clone()),
      independent_(other.independent_->clone()),
      removed_(other.removed_->clone()),
      top_and_sample_(other.top_and_sample_->clone()) {}

const SlotRules* AutoPolicy::slots(const DrawNeed& need) const {
  if (need.chain) return chain_->slots(need);
  switch (need.proposal) {
    case Proposal::kIndependent:
      return independent_->slots(need);
    case Proposal::kWithoutReplacement:
      return removed_->slots(need);
    case Proposal::kTopAndSample:
      return top_and_sample_->slots(need);
    case Proposal::kDeterministic:
      break;
  }
  return nullptr;
}

}  // namespace forerun
