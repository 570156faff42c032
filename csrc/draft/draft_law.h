#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/sampling.h"
#include "base/token_law.h"

namespace forerun {

// q from the most likely tokens of a draft model's row: truncated to them and normalised, which is
// then the law that draws are made from, so that it needs no tail to be exact ("sparse q").
// Temperature, logit bias, top-k, top-p and min-p are the request's, so that q looks like p;
// penalties are not applied, which costs acceptance only.
class DraftLaw {
 public:
  // ids, logits: most likely first. temperature above 0; `sampling` may be null. q is sparse.
  void make(std::span<const int32_t> ids, std::span<const float> logits, float temperature,
            const Sampling* sampling, TokenLaw& q);

 private:
  struct Entry {
    int32_t token;
    double weight;
  };
  void filter(const Sampling& sampling);
  std::vector<Entry> entries_;
};

}  // namespace forerun
