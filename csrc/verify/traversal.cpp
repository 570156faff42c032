#include "verify/traversal.h"

#include <algorithm>

namespace forerun {

std::span<const Proposal> TraversalVerifier::proposals() const {
  static constexpr Proposal kLegal[] = {Proposal::kWithoutReplacement};
  return kLegal;
}

void TraversalVerifier::run(const DraftTree& tree, TargetLaws& target, Dice& dice,
                            Verdict& verdict) {
  target_ = &target;
  dice_ = &dice;
  const auto levels = static_cast<size_t>(tree.max_depth()) + 1;
  if (residual_.size() < levels) {
    residual_.resize(levels);
    draws_.resize(levels);
  }
  keeps(tree, DraftTree::kRoot, 1.0);

  for (int32_t node = kept_; node >= 0; node = tree.parent()[node]) verdict.path.push_back(node);
  std::reverse(verdict.path.begin(), verdict.path.end());
  Residual& residual = residual_[static_cast<size_t>(tree.depth()[kept_])];
  const TokenLaw& p = target.at(kept_);
  verdict.bonus = tree.law(kept_).q.empty() ? draw_token(p, dice) : residual.draw(p, dice);
}

bool TraversalVerifier::keeps(const DraftTree& tree, int32_t node, double weight) {
  const auto depth = static_cast<size_t>(tree.depth()[node]);
  Residual& residual = residual_[depth];
  const DrawLaw law = tree.law(node);
  draws_[depth].clear();
  if (!law.q.empty()) {  // the target's law at a leaf matters only once it is kept
    residual.begin(target_->at(node), law);
    tree.draws(node, draws_[depth]);
  }
  for (size_t draw = 0; draw < draws_[depth].size(); ++draw) {
    const int32_t child = draws_[depth][draw];
    const size_t i = residual.index_of(tree.token()[child]);
    if (keeps(tree, child, std::min(1.0, weight * residual.r(i) / residual.s(i)))) return true;
    const double mass = residual.cut(weight);
    const double rest = mass + 1.0 - weight;
    // The root's stays 1, whatever a tiny mass rounds to: something must be kept.
    if (node != DraftTree::kRoot) weight = rest > 0.0 ? mass / rest : 1.0;
    residual.exclude(i);
  }
  if (!dice_->accept(weight, 1.0)) return false;
  kept_ = node;
  return true;
}

}  // namespace forerun
