#include "verify/logprobs.h"

#include <cmath>
#include <limits>
#include <string>

#include "base/error.h"
#include "base/math.h"
#include "verify/filters.h"

namespace forerun {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Normaliser {
  double best = 0.0;
  double log_sum = 0.0;  // log of sum exp(logit - best)

  explicit Normaliser(std::span<const float> logits) {
    best = logits[best_token(logits)];
    double sum = 0.0;
    for (const float logit : logits) {
      if (logit == best) {
        sum += 1.0;  // also where best is infinite
      } else if (logit > -kInfinity) {
        sum += std::isinf(best) ? 0.0 : exact_exp(logit - best);
      }
    }
    log_sum = exact_log(sum);
  }

  double logprob(float logit) const {
    if (!(logit > -kInfinity) || (std::isinf(best) && logit != best)) return -kInfinity;
    return (logit == best ? 0.0 : logit - best) - log_sum;
  }
};

}  // namespace

void LogprobReader::read(std::span<const float> logits, int32_t chosen, int32_t top,
                         Logprobs& out) {
  if (chosen < 0 || chosen >= static_cast<int64_t>(logits.size()) || top < 0) {
    throw Error(ErrorKind::kBadArgument, "logprobs: token " + std::to_string(chosen) + " and " +
                                             std::to_string(top) + " alternatives of a row of " +
                                             std::to_string(logits.size()) + " logits");
  }
  const Normaliser normaliser(logits);
  out.chosen = {chosen, normaliser.logprob(logits[chosen])};
  out.top.clear();
  if (top == 0) return;
  keep_top_k(logits, top, ranked_);
  for (const int32_t id : ranked_) out.top.push_back({id, normaliser.logprob(logits[id])});
}

}  // namespace forerun
