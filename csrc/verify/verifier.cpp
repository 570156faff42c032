#include "verify/verifier.h"

namespace forerun {

void MatchVerifier::verify(const DraftTree& tree, const NodeLogits& logits, int64_t position,
                           Sampler& sampler, Verdict& verdict) {
  verdict.path.clear();
  int32_t node = DraftTree::kRoot;
  for (;; ++position) {
    verdict.path.push_back(node);
    const int32_t token = sampler.sample(logits.row(node), position);
    sampler.push(token);
    node = tree.child_with(node, token);
    if (node < 0) {
      verdict.bonus = token;
      return;
    }
  }
}

}  // namespace forerun
