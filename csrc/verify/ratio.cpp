#include "verify/ratio.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace forerun {

void RatioVerifier::verify(const DraftTree& tree, const NodeLogits& logits, int64_t position,
                           Sampler& sampler, Verdict& verdict) {
  if (sampler.greedy() || tree.drafted() == 0) {
    match_.verify(tree, logits, position, sampler, verdict);
    return;
  }
  laws_.begin(tree, logits, sampler);
  StepDice dice(sampler.seed(), position, NoiseStream::kCoin, NoiseStream::kResidual);
  decide(tree, laws_, dice, verdict);
  laws_.move_to(verdict.path.back());
  sampler.push(verdict.bonus);
}

void RatioVerifier::decide(const DraftTree& tree, TargetLaws& target, Dice& dice,
                           Verdict& verdict) {
  check(tree);
  verdict.path.clear();
  verdict.bonus = -1;
  run(tree, target, dice, verdict);
}

void RatioVerifier::check(const DraftTree& tree) {
  const std::span<const Proposal> legal = proposals();
  for (int32_t node = 1; node < tree.size(); ++node) {
    const int32_t parent = tree.parent()[node];
    Proposal proposal = tree.law(parent).proposal;
    // Where nothing was left to draw, a node has its chosen children only.
    if (proposal == Proposal::kDeterministic && legal[0] == Proposal::kTopAndSample) continue;
    if (std::find(legal.begin(), legal.end(), proposal) == legal.end()) {
      throw Error(ErrorKind::kBadArgument, "verifier '" + name() + "' cannot test node " +
                                               std::to_string(node) + ": its siblings are " +
                                               proposal_name(proposal) + ", expected " +
                                               proposal_name(legal[0]));
    }
    if (!chains_only()) continue;
    tree.draws(parent, siblings_);
    if (siblings_.size() > 1) {
      throw Error(ErrorKind::kBadArgument, "verifier '" + name() + "' tests chains; below node " +
                                               std::to_string(parent) + " there are " +
                                               std::to_string(siblings_.size()) + " draws");
    }
  }
}

void TopDownVerifier::run(const DraftTree& tree, TargetLaws& target, Dice& dice, Verdict& verdict) {
  int32_t node = DraftTree::kRoot;
  while (node != kStop) {
    verdict.path.push_back(node);
    const TokenLaw& p = target.at(node);
    node = descend(tree, node, p, dice, verdict.bonus);
  }
}

}  // namespace forerun
