#include "verify/block.h"

#include <algorithm>

namespace forerun {

std::span<const Proposal> BlockVerifier::proposals() const {
  static constexpr Proposal kLegal[] = {Proposal::kIndependent, Proposal::kWithoutReplacement};
  return kLegal;  // of a single draw they are the same
}

// Node i of a chain is its i-th token.
void BlockVerifier::run(const DraftTree& tree, TargetLaws& target, Dice& dice, Verdict& verdict) {
  const int32_t last = tree.drafted();
  weight_.assign(1, 1.0);
  int32_t kept = 0;
  for (int32_t i = 0; i < last; ++i) {
    residual_.begin(target.at(i), tree.law(i));
    if (i > 0) {
      const double mass = residual_.overlap(weight_[i]);
      const double rest = mass + 1.0 - weight_[i];
      if (rest <= 0.0 || dice.accept(mass, rest)) kept = i;
    }
    const size_t next = residual_.index_of(tree.token()[i + 1]);
    weight_.push_back(std::min(1.0, weight_[i] * residual_.r(next) / residual_.s(next)));
  }
  if (last > 0 && dice.accept(weight_[last], 1.0)) kept = last;

  for (int32_t i = 0; i <= kept; ++i) verdict.path.push_back(i);
  const TokenLaw& p = target.at(kept);
  residual_.begin(p, tree.law(kept));
  if (kept < last) residual_.cut(weight_[kept]);
  verdict.bonus = residual_.draw(p, dice);
}

}  // namespace forerun
