#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tree/proposal.h"

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
//
// Children that were drawn carry the law they were drawn from and the order of the draws, for the
// verifiers that test p / q; a tree without draws stores nothing of it. Such a tree must stay as it
// was drawn: to drop or to move a node because of its own token changes the law of what is left
// (error up to 0.5, docs/methods.md), so keep_only and add refuse it. How many draws there are is
// decided before they are made, by the policy that grows the tree.
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

  // The next children of `parent` are draws from this law (kTopAndSample: after children added with
  // add()). Error(kBadArgument) when it has a law, or children that were not drawn, or when tokens
  // and q do not fit together.
  void set_law(int32_t parent, Proposal proposal, std::span<const int32_t> tokens,
               std::span<const double> q);
  // A draw of the parent's law: its child with that token, a new one unless independent draws
  // repeat it. Error(kBadArgument) without a law, for a token of probability 0, for a second draw
  // where one is left out (without replacement) or where there is only one (top and sample).
  int32_t draw(int32_t parent, int32_t token, float score, DraftSource source);

  bool sampled() const { return !laws_.empty(); }
  DrawLaw law(int32_t node) const;  // kDeterministic and empty when nothing was to be drawn
  // Nodes drawn below `node` in the order of the draws, repeated where a draw repeated a token.
  void draws(int32_t node, std::vector<int32_t>& nodes) const;

  int32_t child_with(int32_t node, int32_t token) const;  // -1 when there is none
  int32_t size() const { return static_cast<int32_t>(token_.size()); }
  int32_t drafted() const { return size() - 1; }
  int32_t max_depth() const;

  std::span<const int32_t> token() const { return token_; }    // [nodes]
  std::span<const int32_t> parent() const { return parent_; }  // [nodes], -1 for the root
  std::span<const int32_t> depth() const { return depth_; }
  std::span<const float> score() const { return score_; }
  std::span<const DraftSource> source() const { return source_; }

  // Keeps the nodes with keep[i] != 0; keep must be closed under parents and keep the root, and all
  // of a tree with draws (Error(kBadArgument) otherwise).
  void keep_only(std::span<const uint8_t> keep);

 private:
  struct Law {
    int32_t parent;
    Proposal proposal;
    size_t begin, end;  // of law_tokens_ and law_q_
  };
  const Law* find_law(int32_t node) const;
  int32_t append(int32_t parent, int32_t token, float score, DraftSource source);
  void check_parent(int32_t parent) const;

  std::vector<int32_t> token_, parent_, depth_;
  std::vector<int32_t> renumbered_;  // scratch of keep_only
  std::vector<float> score_;
  std::vector<DraftSource> source_;
  std::vector<Law> laws_;
  std::vector<int32_t> law_tokens_, draws_;  // draws_: nodes, in the order of the draws
  std::vector<double> law_q_;
};

}  // namespace forerun
