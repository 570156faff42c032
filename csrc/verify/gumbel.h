#pragma once

#include <cstdint>
#include <limits>
#include <span>

namespace forerun {

// argmax over tokens of (logit - best) / T + G(seed, position, token), ties to the lowest id: a
// draw from softmax(logits / T) (Gumbel-max). NaN counts as -inf. `best` is the token of the
// largest logit, which is finite. Tokens that cannot win are skipped without evaluating G; the
// result is that of the full evaluation.
struct GumbelDraw {
  float temperature = 1.0F;
  uint64_t seed = 0;
  int64_t position = 0;

  // Among the tokens whose scaled logit is at least `least_scaled` and, when `before` is given,
  // that rank before that token (verify/filters.h).
  int32_t among_all(std::span<const float> logits, int32_t best,
                    float least_scaled = -std::numeric_limits<float>::infinity(),
                    int32_t before = -1) const;
  int32_t among(std::span<const float> logits, std::span<const int32_t> kept, int32_t best) const;
};

// At least G of a token with these random bits.
float gumbel_bound(uint32_t bits);

}  // namespace forerun
