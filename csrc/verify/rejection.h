#pragma once

#include <span>
#include <string>

#include "verify/ratio.h"

namespace forerun {

// One draw after another is accepted with probability min(1, r / s); a rejection takes it out of
// what the target still asks for, r = norm((r - s)+); when none is left the bonus comes from r
// (docs/methods.md). The three differ in what the draws are:
// - "rejection": one per node (Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318).
// - "specinfer": independent, s stays q, a repeated draw is tested again (Miao et al., arXiv
//   2305.09781).
// - "swor": without replacement, s loses the draw and is normalised (Jeon et al., arXiv
//   2402.14160). Independent draws too: without their repetitions they are draws without
//   replacement.
class RejectionVerifier final : public TopDownVerifier {
 public:
  enum class Rule { kChain, kIndependent, kWithoutReplacement };
  explicit RejectionVerifier(Rule rule) : rule_(rule) {}
  std::string name() const override;
  std::span<const Proposal> proposals() const override;
  bool chains_only() const override { return rule_ == Rule::kChain; }

 private:
  int32_t descend(const DraftTree& tree, int32_t node, const TokenLaw& p, Dice& dice,
                  int32_t& bonus) override;
  Rule rule_;
};

}  // namespace forerun
