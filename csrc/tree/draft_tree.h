#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace forerun {

// Who proposed a node; calibration of scores is kept per source.
enum class DraftSource : uint8_t {
  kRoot,
  kNgram,
  kSuffix,
  kRecycle,
  kTrigram,
  kRetrieval,
  kModel,
  kEarlyExit,
  kHead,
  kOther
};
inline constexpr int kDraftSources = 10;
const char* source_name(DraftSource source);  // "ngram", ...

// Guesses that share prefixes. Node 0 is the root: the last emitted token, whose KV row is still
// missing. Invariants: parent[i] < i; siblings carry distinct tokens; depth[i] = depth[parent[i]]
// + 1. Topological order pays: the mask is one OR per node, the depth one add, and an accepted path
// is an ascending list of nodes, so that its KV rows move in place.
class DraftTree {
 public:
  static constexpr int32_t kRoot = 0;

  void reset(int32_t root_token);  // keeps the memory
  void reserve(int32_t nodes);

  // Adds a child, or returns the existing child with this token (its score becomes the larger of
  // both). score: the drafter's own estimate, in [0, 1], that this node is accepted given that its
  // parent is; clamped to it, NaN counts as 0. Error(kBadArgument) for a parent that is not in the
  // tree.
  int32_t add(int32_t parent, int32_t token, float score, DraftSource source);

  int32_t child_with(int32_t node, int32_t token) const;  // -1 when there is none
  int32_t size() const { return static_cast<int32_t>(token_.size()); }
  int32_t drafted() const { return size() - 1; }
  int32_t max_depth() const;

  std::span<const int32_t> token() const { return token_; }    // [nodes]
  std::span<const int32_t> parent() const { return parent_; }  // [nodes], -1 for the root
  std::span<const int32_t> depth() const { return depth_; }
  std::span<const float> score() const { return score_; }
  std::span<const DraftSource> source() const { return source_; }

  // Keeps the nodes with keep[i] != 0; keep must be closed under parents and keep the root (Error
  // otherwise).
  void keep_only(std::span<const uint8_t> keep);

 private:
  std::vector<int32_t> token_, parent_, depth_;
  std::vector<int32_t> renumbered_;  // scratch of keep_only
  std::vector<float> score_;
  std::vector<DraftSource> source_;
};

}  // namespace forerun
