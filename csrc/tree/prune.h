#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tree/draft_tree.h"

namespace forerun {

// Chooses the best nodes of a tree and joins trees. The value of a node is the product of the
// scores along its path: the probability that it is accepted, if the scores are calibrated
// (EAGLE-2, OPT-Tree). Order: larger value first, ties to the lower index. A parent's value is
// never smaller and its index is lower, so every prefix of the order is closed under parents, with
// ties too. Trees whose nodes are draws are refused (tree/draft_tree.h). Scratch is reused.
class TreePruner {
 public:
  void reserve(int32_t nodes);  // scratch, so that trees of up to so many nodes do not allocate

  // Values from the tree's own scores: [nodes], 1 for the root.
  std::span<const float> path_values(const DraftTree& tree);

  // Drafted nodes, best first. A value above its parent's counts as the parent's.
  std::span<const int32_t> order(const DraftTree& tree, std::span<const float> values);

  // Keeps the root and the first `nodes` drafted nodes of the order.
  void keep_best(DraftTree& tree, std::span<const float> values, int32_t nodes);
  void keep_best(DraftTree& tree, int32_t nodes) { keep_best(tree, path_values(tree), nodes); }

  // Adds the branches of `other` to `tree`: shared prefixes are merged, a node that both have keeps
  // its first source and the larger score. Error(kBadArgument) when the roots carry different
  // tokens.
  void fuse(const DraftTree& other, DraftTree& tree);

 private:
  std::vector<float> value_, capped_;
  std::vector<int32_t> order_, node_of_;
  std::vector<uint8_t> keep_;
};

}  // namespace forerun
