#pragma once

#include <span>
#include <string>

#include "base/settings.h"
#include "verify/ratio.h"

namespace forerun {

// LOSSY. Rejection with a target that is more easily pleased, f(p) in place of p: f = p / epsilon
// ("linear": a token is emitted with at most 1 / epsilon times its probability), p / epsilon^2
// ("square") or p^epsilon ("power"); epsilon = 1 is rejection (Leviathan et al., arXiv 2211.17192,
// appendix; DistillSpec, arXiv 2310.08461). Chains of draws.
class LenientVerifier final : public TopDownVerifier {
 public:
  enum class Form { kLinear, kSquare, kPower };
  // Options: epsilon (0.7), form ("linear").
  explicit LenientVerifier(Settings settings);
  std::string name() const override { return "lenient"; }
  bool lossless() const override { return false; }
  std::span<const Proposal> proposals() const override;
  bool chains_only() const override { return true; }

 private:
  int32_t descend(const DraftTree& tree, int32_t node, const TokenLaw& p, Dice& dice,
                  int32_t& bonus) override;
  double eased(double p) const;

  double epsilon_;
  Form form_ = Form::kLinear;
  TokenLaw eased_;
};

}  // namespace forerun
