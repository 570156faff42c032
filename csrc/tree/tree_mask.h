#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tree/draft_tree.h"

namespace forerun {

// Ancestor bitsets: row[i] = row[parent[i]] | bit(i). Only tree nodes are in the mask; the prefix
// is visible to all of them, so the mask never grows with the context. O(nodes^2 / 64).
class TreeMask {
 public:
  explicit TreeMask(const DraftTree& tree);
  bool sees(int32_t node, int32_t other) const {
    return (words_[static_cast<size_t>(node) * stride_ + other / 64] >> (other % 64)) & 1U;
  }
  std::span<const uint64_t> row(int32_t node) const {
    return {words_.data() + node * stride_, stride_};
  }
  // Ancestors of `node` from the root down, itself last.
  std::vector<int32_t> path(int32_t node) const;

 private:
  size_t stride_;
  std::vector<uint64_t> words_;
};

}  // namespace forerun
