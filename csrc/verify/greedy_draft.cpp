#include "verify/greedy_draft.h"

namespace forerun {

std::span<const Proposal> GreedyDraftVerifier::proposals() const {
  static constexpr Proposal kLegal[] = {Proposal::kTopAndSample};
  return kLegal;
}

int32_t GreedyDraftVerifier::descend(const DraftTree& tree, int32_t node, const TokenLaw& p,
                                     Dice& dice, int32_t& bonus) {
  residual_.begin(p, tree.law(node));
  tree.draws(node, draws_);
  if (!draws_.empty()) {
    const size_t i = residual_.index_of(tree.token()[draws_.front()]);
    if (dice.accept(residual_.r(i), residual_.s(i))) return draws_.front();
    residual_.cut();
  }
  bonus = residual_.draw(p, dice);
  return tree.child_with(node, bonus);
}

}  // namespace forerun
