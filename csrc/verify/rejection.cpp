#include "verify/rejection.h"

#include <algorithm>

namespace forerun {

std::string RejectionVerifier::name() const {
  switch (rule_) {
    case Rule::kChain:
      return "rejection";
    case Rule::kIndependent:
      return "specinfer";
    case Rule::kWithoutReplacement:
      return "swor";
  }
  return "";
}

std::span<const Proposal> RejectionVerifier::proposals() const {
  static constexpr Proposal kOne[] = {Proposal::kIndependent, Proposal::kWithoutReplacement};
  static constexpr Proposal kRemoved[] = {Proposal::kWithoutReplacement, Proposal::kIndependent};
  switch (rule_) {
    case Rule::kChain:
      return kOne;  // of a single draw they are the same
    case Rule::kIndependent:
      return std::span(kOne).first(1);
    case Rule::kWithoutReplacement:
      return kRemoved;
  }
  return {};
}

int32_t RejectionVerifier::descend(const DraftTree& tree, int32_t node, const TokenLaw& p,
                                   Dice& dice, int32_t& bonus) {
  residual_.begin(p, tree.law(node));
  tree.draws(node, draws_);
  for (size_t draw = 0; draw < draws_.size(); ++draw) {
    const int32_t child = draws_[draw];
    const auto before = draws_.begin() + static_cast<int64_t>(draw);
    const bool repeated = std::find(draws_.begin(), before, child) != before;
    if (repeated && rule_ == Rule::kWithoutReplacement) continue;
    const size_t i = residual_.index_of(tree.token()[child]);
    if (dice.accept(residual_.r(i), residual_.s(i))) return child;
    residual_.cut();
    if (rule_ == Rule::kWithoutReplacement) residual_.exclude(i);
  }
  bonus = residual_.draw(p, dice);
  return kStop;
}

}  // namespace forerun
