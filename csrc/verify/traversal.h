#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "verify/ratio.h"

namespace forerun {

// Traversal verification (Weng et al., arXiv 2505.12398): block verification for trees of draws
// without replacement, from the leaves to the root. A node enters with the clipped ratio w of its
// path; its subtree is tried first, and each child that fails turns w into Z / (Z + 1 - w) with Z
// the mass of (w p - q)+; then the node itself is kept with probability w. On a chain it is block
// verification. Reads every node that has children.
class TraversalVerifier final : public RatioVerifier {
 public:
  std::string name() const override { return "traversal"; }
  std::span<const Proposal> proposals() const override;

 private:
  void run(const DraftTree& tree, TargetLaws& target, Dice& dice, Verdict& verdict) override;
  bool keeps(const DraftTree& tree, int32_t node, double weight);

  TargetLaws* target_ = nullptr;  // of the call at hand
  Dice* dice_ = nullptr;
  int32_t kept_ = -1;
  std::vector<Residual> residual_;  // by depth
  std::vector<std::vector<int32_t>> draws_;
};

}  // namespace forerun
