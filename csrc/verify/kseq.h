#pragma once

#include <span>
#include <string>

#include "verify/ratio.h"

namespace forerun {

// SpecTr (Sun et al., arXiv 2310.15141). The k draws of a node are tested with one threshold,
// min(1, p / (rho q)), with the smallest rho for which the residual is not negative. A node drawn m
// times carries m draws below it when whole chains were drawn: descending to it keeps every chain
// with that token, which is SpecTr's chain batch. Independent draws only, their number fixed before
// the first of them.
class KseqVerifier final : public TopDownVerifier {
 public:
  std::string name() const override { return "kseq"; }
  std::span<const Proposal> proposals() const override;

 private:
  int32_t descend(const DraftTree& tree, int32_t node, const TokenLaw& p, Dice& dice,
                  int32_t& bonus) override;
  double rho(int32_t draws) const;
  double matched(double rho) const;  // sum of min(q, p / rho): one draw's acceptance
};

}  // namespace forerun
