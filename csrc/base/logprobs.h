#pragma once

#include <cstdint>
#include <vector>

namespace forerun {

struct TokenLogprob {
  int32_t token = -1;
  double logprob = 0.0;
  bool operator==(const TokenLogprob&) const = default;
};

// What the model itself says of a position: the log-softmax of the raw logits, before penalties,
// temperature and filters. Natural logarithm.
struct Logprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob>
      top;  // most likely first, ties to the lowest id; may hold the chosen token too
};

}  // namespace forerun
