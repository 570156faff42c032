#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/math.h"
#include "base/random.h"
#include "draft/drafter.h"

namespace forerun {

// What tables make of the target's own noise (Daliri, Musco, Suresh, arXiv 2408.07978). At a
// temperature the target's token is the arg max of log p + G, and G is known to whoever knows seed,
// position and token. So a candidate with share s of the law counts as s * exp(G) among the others,
// and those that a table does not list, together a Gumbel variable as well, as what they share
// times its median: the odds that it wins. Shares are estimates, and large noise picks out those
// that are too large, so the noise of candidates counts by a part. Candidates have a `token`.
class SharedNoise {
 public:
  SharedNoise() = default;  // shares stay as they are
  SharedNoise(const DraftNoise& noise, size_t context)
      : on_(noise.temperature > 0.0F && noise.need.proposal == Proposal::kDeterministic),
        seed_(noise.seed),
        position_(static_cast<int64_t>(context) + noise.unseen) {}

  // Shares of all candidates after a node of this depth, at most 1 together.
  template <typename Candidate>
  void apply(int32_t depth, std::span<Candidate> candidates, float Candidate::*share) const {
    if (!on_) return;
    double left = 1.0, total = 0.0;
    for (Candidate& candidate : candidates) {
      left -= static_cast<double>(candidate.*share);
      const double noise = gumbel_noise(seed_, position_ + depth, candidate.token);
      candidate.*share *= static_cast<float>(exact_exp(kTrust * noise));
      total += static_cast<double>(candidate.*share);
    }
    total += kMedian * std::max(left, kLeast);
    for (Candidate& candidate : candidates) candidate.*share /= static_cast<float>(total);
  }

 private:
  static constexpr double kTrust = 0.7;      // power of exp(G)
  static constexpr double kMedian = 1.4427;  // exp of a Gumbel variable's median, 1 / ln 2
  static constexpr double kLeast = 1e-6;
  bool on_ = false;
  uint64_t seed_ = 0;
  int64_t position_ = 0;
};

}  // namespace forerun
