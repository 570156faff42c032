#include "draft/draft_law.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/math.h"

namespace forerun {

void DraftLaw::make(std::span<const int32_t> ids, std::span<const float> logits, float temperature,
                    const Sampling* sampling, TokenLaw& q) {
  entries_.clear();
  double best = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < ids.size(); ++i) {
    double logit = logits[i];
    if (sampling != nullptr) {
      for (const auto& [token, bias] : sampling->logit_bias) logit += token == ids[i] ? bias : 0.0F;
    }
    if (std::isfinite(logit)) {
      entries_.push_back({ids[i], logit});
      best = std::max(best, logit);
    }
  }
  for (Entry& entry : entries_) entry.weight = exact_exp((entry.weight - best) / temperature);
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  });
  if (sampling != nullptr) filter(*sampling);
  std::sort(entries_.begin(), entries_.end(),
            [](const Entry& a, const Entry& b) { return a.token < b.token; });
  double total = 0.0;
  for (const Entry& entry : entries_) total += entry.weight;
  q.clear();
  for (const Entry& entry : entries_) {
    if (!(entry.weight > 0.0)) continue;
    q.tokens.push_back(entry.token);
    q.probability.push_back(entry.weight / total);
  }
}

void DraftLaw::filter(const Sampling& sampling) {
  if (sampling.top_k > 0 && static_cast<size_t>(sampling.top_k) < entries_.size()) {
    entries_.resize(static_cast<size_t>(sampling.top_k));
  }
  if (sampling.top_p < 1.0F) {
    double total = 0.0, sum = 0.0;
    for (const Entry& entry : entries_) total += entry.weight;
    size_t kept = 0;
    while (kept < entries_.size() && (kept == 0 || sum < sampling.top_p * total)) {
      sum += entries_[kept++].weight;
    }
    entries_.resize(kept);
  }
  std::erase_if(entries_, [&](const Entry& entry) { return entry.weight < sampling.min_p; });
}

}  // namespace forerun
