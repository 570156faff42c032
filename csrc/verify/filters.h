#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace forerun {

// The sampling filters of one row of logits. NaN counts as -inf. Rank: larger logit first, ties to
// the lower id. None sorts the vocabulary: the best k are found in one scan with a rising
// threshold, and top-p sorts only as many of the best tokens as its mass needs.

// Lowest id of the largest logit; 0 when there is none above -inf.
int32_t best_token(std::span<const float> logits);

// The k best tokens in the order of their rank (fewer when fewer are above -inf). `kept` is the
// result and scratch.
void keep_top_k(std::span<const float> logits, int32_t k, std::vector<int32_t>& kept);

// Cuts `ranked` to its shortest prefix whose probability, among `ranked` at this temperature,
// reaches p; at least one.
void cut_top_p(std::span<const float> logits, float temperature, double p,
               std::vector<int32_t>& ranked);

// The same for the whole vocabulary: `kept` becomes the ranked prefix.
void keep_top_p(std::span<const float> logits, float temperature, double p,
                std::vector<int32_t>& kept);

// Whether top-p over the whole vocabulary keeps `token`: the tokens ranked before it do not reach p
// without it. `best` is the token of the largest logit.
bool in_top_p(std::span<const float> logits, int32_t best, float temperature, double p,
              int32_t token);

// Whether min-p keeps a token: probability at least min_p times that of the best.
bool passes_min_p(float logit, float best, float temperature, double log_min_p);

// logit relative to the best one, over the temperature: the log-probability up to a constant, at
// most 0.
inline float scaled(float logit, float best, float temperature) {
  return (logit - best) / temperature;
}

}  // namespace forerun
