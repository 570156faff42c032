#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace forerun {

struct TokenLogprob {
  int32_t token = -1;
  double logprob = 0.0;
};

// What the model itself says of a position: the log-softmax of the raw logits, before penalties, temperature and
// filters. Natural logarithm.
struct Logprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // most likely first, ties to the lowest id; may hold the chosen token too
};

// log-softmax of a row in double. NaN counts as -inf; if no logit is above -inf every logprob is -inf, and tokens at
// +inf share all the probability. Error(kBadArgument) for a chosen token outside the row or a negative count.
class LogprobReader {
 public:
  void read(std::span<const float> logits, int32_t chosen, int32_t top, Logprobs& out);

 private:
  std::vector<int32_t> ranked_;
};

}  // namespace forerun
