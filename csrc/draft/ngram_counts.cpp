#include "draft/ngram_counts.h"

#include <algorithm>
#include <cmath>

namespace forerun {
namespace {

// Extends the hash of a context by the token before it (splitmix64's finaliser).
uint64_t extended(uint64_t hash, int32_t token) {
  uint64_t mixed = hash + 0x9E3779B97F4A7C15U * (static_cast<uint32_t>(token) + uint64_t{1});
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9U;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBU;
  return mixed ^ (mixed >> 31);
}

int32_t count_of(const auto& counts, int32_t token) {
  const auto found = std::find_if(counts.begin(), counts.end(),
                                  [&](const auto& entry) { return entry.first == token; });
  return found == counts.end() ? 0 : found->second;
}

}  // namespace

void NgramCounts::add(std::span<const int32_t> text) {
  for (size_t at = 1; at < text.size(); ++at) {
    uint64_t hash = 0;
    for (size_t back = 1; back <= std::min(at, size_t{kMostContext}); ++back) {
      hash = extended(hash, text[at - back]);
      Followers& entry = followers_[hash];
      const auto found = std::find_if(entry.counts.begin(), entry.counts.end(),
                                      [&](const auto& seen) { return seen.first == text[at]; });
      if (found == entry.counts.end()) {
        entry.counts.emplace_back(text[at], 1);
      } else {
        ++found->second;
      }
      ++entry.total;
    }
  }
}

void NgramCounts::interpolate(std::span<const int32_t> context, std::span<const int32_t> candidates,
                              double weight, std::span<double> logprob) const {
  const Followers* longest = nullptr;
  uint64_t hash = 0;
  for (size_t back = 1; back <= std::min(context.size(), size_t{kMostContext}); ++back) {
    hash = extended(hash, context[context.size() - back]);
    const auto found = followers_.find(hash);
    if (found == followers_.end()) break;  // no longer context can have been counted
    longest = &found->second;
  }
  if (longest == nullptr) return;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const double counted = count_of(longest->counts, candidates[i]);
    const double smoothed =
        (counted + kPriorCount * std::exp(logprob[i])) / (longest->total + kPriorCount);
    logprob[i] = (1.0 - weight) * logprob[i] + weight * std::log(smoothed);
  }
}

}  // namespace forerun
