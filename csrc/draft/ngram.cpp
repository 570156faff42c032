#include "draft/ngram.h"

#include <algorithm>

namespace forerun {
namespace {

constexpr int32_t kLongestMatch = 32;  // beyond it a match is as good as certain
constexpr int32_t kCompared = 8;       // depth within which a rival continuation must differ
constexpr int32_t kRivalsSeen = 16;    // earlier occurrences looked at
constexpr float kForked = 0.6F;        // the latest continuation where a rival differs
constexpr float kRival = 0.35F;
constexpr int32_t kRivalShare = 4;  // the rival gets at most budget / 4 nodes

}  // namespace

float ngram_score(int32_t matched) {
  constexpr float kByLength[] = {0.05F, 0.08F, 0.22F, 0.33F, 0.46F, 0.6F, 0.7F};
  if (matched < 7) return kByLength[std::max(matched, 0)];
  if (matched < 9) return 0.8F;
  if (matched < 13) return 0.89F;
  if (matched < 17) return 0.94F;
  return matched < 25 ? 0.97F : 0.99F;
}

void NgramDrafter::begin(std::span<const int32_t> context) {
  index_.clear();
  follow(context);
}

void NgramDrafter::follow(std::span<const int32_t> context) {
  index_.truncate(static_cast<int32_t>(context.size()));
  for (size_t i = static_cast<size_t>(index_.length()); i < context.size(); ++i) {
    index_.append(context[i]);
  }
}

void NgramDrafter::observe(std::span<const int32_t> context, const Observation& truth) {
  (void)truth;
  follow(context);
}

void NgramDrafter::rewind(std::span<const int32_t> context) { follow(context); }

int32_t NgramDrafter::match_length(int32_t earlier) const {
  const std::span<const int32_t> tokens = index_.tokens();
  const int32_t end = index_.length() - 1;
  int32_t length = 0;
  while (length < kLongestMatch && earlier - length >= 0 &&
         tokens[earlier - length] == tokens[end - length]) {
    ++length;
  }
  return length;
}

int32_t NgramDrafter::rival_of(int32_t n, int32_t earlier, int32_t& depth) const {
  const std::span<const int32_t> tokens = index_.tokens();
  int32_t rival = earlier;
  for (int32_t seen = 0; seen < kRivalsSeen; ++seen) {
    rival = index_.previous(n, rival);
    if (rival < 0) return -1;
    for (int32_t i = 1; i <= kCompared && earlier + i < index_.length(); ++i) {
      if (tokens[rival + i] == tokens[earlier + i]) continue;
      depth = i;
      return rival;
    }
  }
  return -1;
}

// Copies the tokens after `earlier`; where the context ends, the copy goes on with what it wrote
// itself (a loop).
void NgramDrafter::copy(int32_t earlier, int32_t matched, int32_t nodes, const Budget& budget,
                        int32_t fork_depth, float fork_factor, DraftTree& tree) const {
  const std::span<const int32_t> tokens = index_.tokens();
  const int32_t period = index_.length() - 1 - earlier;
  const int32_t depths = std::min(nodes, budget.max_depth);
  float value = 1.0F;
  int32_t node = DraftTree::kRoot;
  for (int32_t depth = 1; depth <= depths; ++depth) {
    const int32_t token = tokens[earlier + 1 + (depth - 1) % period];
    const float score =
        ngram_score(matched + depth - 1) * (depth == fork_depth ? fork_factor : 1.0F);
    value *= score;
    if (value < budget.min_value || tree.drafted() >= budget.max_nodes) return;
    node = tree.add(node, token, score, DraftSource::kNgram);
  }
}

void NgramDrafter::propose(std::span<const int32_t> context, const Budget& budget,
                           const DraftNoise& noise, DraftTree& tree) {
  (void)noise;
  follow(context);
  const int32_t end = index_.length() - 1;
  for (int32_t n = index_.max_n(); n >= index_.min_n() && end >= 0; --n) {
    const int32_t latest = index_.previous(n, end);
    if (latest < 0) continue;
    int32_t fork_depth = 0;
    const int32_t rival = rival_of(n, latest, fork_depth);
    const int32_t rival_nodes = rival >= 0 ? budget.max_nodes / kRivalShare : 0;
    copy(latest, match_length(latest), budget.max_nodes - rival_nodes, budget, fork_depth, kForked,
         tree);
    if (rival_nodes > 0) {
      copy(rival, match_length(rival), fork_depth - 1 + rival_nodes, budget, fork_depth, kRival,
           tree);
    }
    return;
  }
}

}  // namespace forerun
