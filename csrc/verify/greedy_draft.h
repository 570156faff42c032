#pragma once

#include <span>
#include <string>

#include "verify/ratio.h"

namespace forerun {

// For n - 1 chosen children and one draw X from q without them (Hu et al., arXiv 2502.18779): X is
// accepted with probability min(1, p / q); otherwise y ~ norm((p - q)+), and y is accepted where a
// chosen child carries it. Accepts p(chosen) + sum of min(p, q), the most that any verifier can
// with such children. A node without a draw is matched.
class GreedyDraftVerifier final : public TopDownVerifier {
 public:
  std::string name() const override { return "greedy-draft"; }
  std::span<const Proposal> proposals() const override;

 private:
  int32_t descend(const DraftTree& tree, int32_t node, const TokenLaw& p, Dice& dice,
                  int32_t& bonus) override;
};

}  // namespace forerun
