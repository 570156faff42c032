#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/logprobs.h"

namespace forerun {

// log-softmax of a row in double. NaN counts as -inf; if no logit is above -inf every logprob is
// -inf, and tokens at +inf share all the probability. Error(kBadArgument) for a chosen token
// outside the row or a negative count.
class LogprobReader {
 public:
  void read(std::span<const float> logits, int32_t chosen, int32_t top, Logprobs& out);

 private:
  std::vector<int32_t> ranked_;
};

}  // namespace forerun
