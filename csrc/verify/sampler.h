#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/sampling.h"
#include "base/token_law.h"

namespace forerun {

// Chooses the target's token: argmax over the kept tokens of (logit - best) / T + G(seed, position,
// token) with Gumbel noise G, or the plain argmax at T = 0; ties go to the lowest id, NaN counts as
// -inf. This is the definition of plain decoding too. When no token is above -inf, or the best is
// +inf, the argmax decides: the result is always a valid id. Penalties follow vLLM: repetition over
// prompt and output, frequency and presence over the output. Holds the penalty history of one
// sequence; scratch is reused.
class Sampler {
 public:
  // Error(kBadArgument) naming the parameter that is out of range or not finite, or a biased token
  // outside [0, vocab).
  Sampler(Sampling sampling, uint64_t seed, int32_t vocab);

  // History for the penalties. `output` false: tokens of the prompt. Error(kBadArgument) for a
  // token outside the vocabulary.
  void push(int32_t token, bool output = true);
  void pop(int32_t token);  // takes back the last push(token); only output can be taken back
  void clear_history();     // before the tokens that are left after a rewind are pushed again

  // The token at `position` given the logits after the history. O(vocab). Error(kBadArgument) for a
  // row that is not `vocab` long.
  int32_t sample(std::span<const float> logits, int64_t position);

  // What sample() does, for a back end to do; nothing where it depends on the history or a bias.
  std::optional<TokenDraw> draw(int64_t position) const;

  // The distribution that sample() draws from: after penalties, bias, temperature and filters,
  // normalised in double; one token of probability 1 when greedy. Sparse when a filter is on.
  void distribution(std::span<const float> logits, TokenLaw& law);

  const Sampling& sampling() const { return sampling_; }
  uint64_t seed() const { return seed_; }
  bool greedy() const { return sampling_.temperature == 0.0F; }

 private:
  void check_row(std::span<const float> logits) const;
  std::span<const float> adjusted(std::span<const float> logits);  // after penalties and bias
  bool filter(std::span<const float> row, int32_t best);  // kept_; false: all tokens are kept

  int32_t sample_unranked(std::span<const float> row, int32_t best, int64_t position) const;

  Sampling sampling_;
  uint64_t seed_;
  int32_t vocab_;
  double log_min_p_;
  float least_scaled_;  // the least number at or above log_min_p_
  std::vector<int32_t> occurrences_, output_occurrences_;  // [vocab], empty without penalties
  std::vector<int32_t> seen_;                              // distinct tokens of the history
  std::vector<float> scores_;
  std::vector<int32_t> kept_;
};

}  // namespace forerun
