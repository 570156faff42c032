#pragma once

#include <string>
#include <vector>

#include "base/settings.h"
#include "verify/target_laws.h"
#include "verify/verifier.h"

namespace forerun {

// LOSSY. Typical acceptance (Medusa, arXiv 2401.10774): a guess is good enough where p(x) >
// min(epsilon, delta exp(-H(p))). The longest good path is kept, ties by its summed log p; after it
// the target's own sample decides, and where a child carries it the same goes on from there. At
// temperature 0: match. Any tree.
class TypicalVerifier final : public Verifier {
 public:
  // Options: epsilon (0.09), delta (0.3).
  explicit TypicalVerifier(Settings settings);
  std::string name() const override { return "typical"; }
  bool lossless() const override { return false; }
  void verify(const DraftTree& tree, const NodeLogits& logits, int64_t position, Sampler& sampler,
              Verdict& verdict) override;

 private:
  int32_t best_below(const DraftTree& tree, int32_t from);

  double epsilon_, delta_;
  MatchVerifier match_;
  SampledLaws laws_;
  std::vector<double> log_p_;  // [nodes] along a good path, -inf where it is not good
  std::vector<int32_t> path_;
};

}  // namespace forerun
