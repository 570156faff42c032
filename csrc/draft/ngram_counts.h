#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace forerun {

// How often which token followed which one to five tokens in some text. Contexts are known by a
// 64-bit hash alone: a collision (one in 2^64 pairs) would cost a worse guess. Memory: five entries
// per token at most.
class NgramCounts {
 public:
  static constexpr int32_t kMostContext = 5;

  // Counts every n-gram of a text, n = 2 to 6. O(tokens).
  void add(std::span<const int32_t> text);

  // Moves `logprob` [i], the log-probability that a model gives to candidates[i] after `context`,
  // towards what the counts say: logprob := (1 - weight) logprob + weight log p, where p is the
  // count distribution after the longest counted context, smoothed by the model's own (Dirichlet
  // prior of kPriorCount), so that a context never seen changes nothing.
  void interpolate(std::span<const int32_t> context, std::span<const int32_t> candidates,
                   double weight, std::span<double> logprob) const;

 private:
  static constexpr double kPriorCount = 1.0;
  struct Followers {
    int32_t total = 0;
    std::vector<std::pair<int32_t, int32_t>> counts;  // token, how often
  };
  std::unordered_map<uint64_t, Followers> followers_;  // by the hash of a context and its length
};

}  // namespace forerun
