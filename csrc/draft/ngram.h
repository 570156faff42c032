#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "draft/drafter.h"
#include "draft/ngram_index.h"

namespace forerun {

// Prompt look-up: finds the longest suffix of the context (max_n down to min_n tokens) that
// occurred before and copies what followed its latest occurrence, for as long as the budget allows
// (Saxena, prompt-lookup-decoding; llama.cpp takes the latest match too). Where an earlier
// occurrence went on differently, its continuation is a second branch. A score rises with the
// number of tokens matched so far, drafted ones included; the steps are wide enough for a
// calibration by score to correct each of them. n = 1 drafts junk and is off by default.
class NgramDrafter final : public Drafter {
 public:
  explicit NgramDrafter(int32_t min_n = 2, int32_t max_n = 12) : index_(min_n, max_n) {}

  std::string name() const override { return "ngram"; }
  DraftSource source() const override { return DraftSource::kNgram; }
  void begin(std::span<const int32_t> context) override;
  void propose(std::span<const int32_t> context, const Budget& budget, const DraftNoise& noise,
               DraftTree& tree) override;
  void observe(std::span<const int32_t> context, const Observation& truth) override;
  void rewind(std::span<const int32_t> context) override;
  std::unique_ptr<Drafter> fork() const override { return std::make_unique<NgramDrafter>(*this); }

 private:
  void follow(std::span<const int32_t> context);  // brings the index to this context
  int32_t match_length(
      int32_t earlier) const;  // tokens that agree, backwards from the end and from `earlier`
  // The latest occurrence before `earlier` that continues differently within kCompared tokens; the
  // depth of the first difference goes to `depth`.
  int32_t rival_of(int32_t n, int32_t earlier, int32_t& depth) const;
  void copy(int32_t earlier, int32_t matched, int32_t nodes, const Budget& budget,
            int32_t fork_depth, float fork_factor, DraftTree& tree) const;

  NgramIndex index_;
};

// Estimated acceptance of the token after a match of this many tokens.
float ngram_score(int32_t matched);

}  // namespace forerun
