#pragma once

#include <span>
#include <string>
#include <vector>

#include "verify/ratio.h"

namespace forerun {

// Block verification of a chain (Sun et al., arXiv 2403.10444): the clipped running ratio w_i =
// min(1, w_(i-1) p / q) decides once how much of the chain is kept, so that a token with p < q may
// be saved by those after it. The longest i whose own coin shows h_i is kept, also where earlier
// coins fail; the residual after it is norm((w p - q)+). Accepts at least as much as rejection, on
// every input in expectation.
class BlockVerifier final : public RatioVerifier {
 public:
  std::string name() const override { return "block"; }
  std::span<const Proposal> proposals() const override;
  bool chains_only() const override { return true; }

 private:
  void run(const DraftTree& tree, TargetLaws& target, Dice& dice, Verdict& verdict) override;

  Residual residual_;
  std::vector<double> weight_;  // [nodes]
};

}  // namespace forerun
