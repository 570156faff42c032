#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/settings.h"
#include "verify/target_laws.h"
#include "verify/verifier.h"

namespace forerun {

// Says from the target's hidden row of a guessed token how likely it continues the text correctly.
class JudgeHead {
 public:
  virtual ~JudgeHead() = default;
  virtual double correct(std::span<const float> hidden) const = 0;  // in [0, 1]
};

// LOSSY. Judge decoding (Bachmann et al., arXiv 2501.19309): a guess is kept where the target would
// have written it, or where the head finds it correct; the first that is neither is replaced by the
// target's own sample. At most `most_in_a_row` guesses are kept on the head's word alone, and none
// of them is the last of its branch. At temperature 0 too. Any tree.
class JudgeVerifier final : public Verifier {
 public:
  // Options: head (the file that it is from), threshold (0.5), most_in_a_row (8).
  // Error(kBadArgument) without a head.
  JudgeVerifier(std::shared_ptr<const JudgeHead> head, Settings settings);
  std::string name() const override { return "judge"; }
  bool lossless() const override { return false; }
  bool needs_hidden() const override { return true; }
  // Error(kBadArgument) without hidden rows.
  void verify(const DraftTree& tree, const NodeLogits& logits, int64_t position, Sampler& sampler,
              Verdict& verdict) override;

 private:
  int32_t judged_child(const DraftTree& tree, const NodeLogits& logits, int32_t node);

  std::shared_ptr<const JudgeHead> head_;
  double threshold_;
  int32_t most_in_a_row_;
};

}  // namespace forerun
