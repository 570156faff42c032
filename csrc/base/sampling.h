#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace forerun {

// How a token is chosen from the target's logits. Applied in this order: repetition, frequency and
// presence penalties, logit bias, temperature, top-k, top-p, min-p, then the draw
// (verify/sampler.h).
struct Sampling {
  float temperature = 0.0F;  // 0: the most likely token; >= 0
  int32_t top_k = 0;         // keep the k most likely tokens; 0: all
  float top_p = 1.0F;        // keep the smallest set whose probability reaches p; (0, 1]
  float min_p = 0.0F;        // keep tokens with at least min_p times the best probability; [0, 1]
  float repetition_penalty =
      1.0F;  // > 0; tokens of prompt and output: logit / r if positive, else logit * r
  float frequency_penalty = 0.0F;  // subtracted once per occurrence in the output
  float presence_penalty = 0.0F;   // subtracted once if the token occurs in the output
  std::vector<std::pair<int32_t, float>> logit_bias =
      {};  // added to the logits of these tokens; -inf forbids

  bool penalizes() const {
    return repetition_penalty != 1.0F || frequency_penalty != 0.0F || presence_penalty != 0.0F;
  }
};

}  // namespace forerun
