#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/sampling.h"

namespace forerun {

// Chooses the target's token: argmax over the kept tokens of logit / T + G(seed, position, token) with Gumbel noise
// G, or the plain argmax at T = 0; ties go to the lowest id, NaN counts as -inf. This is the definition of plain
// decoding too. Holds the penalty history of one sequence; scratch is reused.
class Sampler {
 public:
  // Error(kBadArgument) naming the parameter that is out of range or not finite, or a biased token outside [0, vocab).
  Sampler(Sampling sampling, uint64_t seed, int32_t vocab);

  // History for the penalties. `output` false: tokens of the prompt.
  void push(int32_t token, bool output = true);
  void truncate(int64_t length, std::span<const int32_t> context, int64_t prompt_length);  // after a rewind

  // The token at `position` given the logits after the history. O(vocab).
  int32_t sample(std::span<const float> logits, int64_t position);

  const Sampling& sampling() const { return sampling_; }
  uint64_t seed() const { return seed_; }
  bool greedy() const { return sampling_.temperature == 0.0F; }

 private:
  Sampling sampling_;
  uint64_t seed_;
  int32_t vocab_;
  std::unordered_map<int32_t, int32_t> seen_;    // any token of the context: occurrences
  std::unordered_map<int32_t, int32_t> output_;  // tokens of the output: occurrences
  std::vector<float> scores_;
  std::vector<int32_t> order_;
};

}  // namespace forerun
