#pragma once

#include <vector>

#include "base/dice.h"
#include "verify/residual.h"
#include "verify/target_laws.h"
#include "verify/verifier.h"

namespace forerun {

// A verifier that compares p with the law q of the draws: lossless in distribution, not the text of
// plain decoding. Where nothing is left to chance, at temperature 0 and in a step without guesses,
// it walks as match does, so that it then gives the text of plain decoding. Its coins and its draws
// from residuals are streams of their own, keyed by (seed, position, throw).
class RatioVerifier : public Verifier {
 public:
  bool lossless() const override { return true; }
  void verify(const DraftTree& tree, const NodeLogits& logits, int64_t position, Sampler& sampler,
              Verdict& verdict) final;

  // The rule itself. Error(kBadArgument) for a tree with children it is not legal for.
  void decide(const DraftTree& tree, TargetLaws& target, Dice& dice, Verdict& verdict);

 protected:
  virtual void run(const DraftTree& tree, TargetLaws& target, Dice& dice, Verdict& verdict) = 0;

 private:
  void check(const DraftTree& tree);

  std::vector<int32_t> siblings_;
  MatchVerifier match_;
  SampledLaws laws_;
};

// Those that go down from the root and settle one node after another.
class TopDownVerifier : public RatioVerifier {
 protected:
  static constexpr int32_t kStop = -1;  // no child is accepted

  void run(const DraftTree& tree, TargetLaws& target, Dice& dice, Verdict& verdict) final;
  // The accepted child of `node`, or kStop with the token to emit in `bonus`. The node has a law.
  virtual int32_t descend(const DraftTree& tree, int32_t node, const TokenLaw& p, Dice& dice,
                          int32_t& bonus) = 0;

  Residual residual_;
  std::vector<int32_t> draws_;
};

}  // namespace forerun
