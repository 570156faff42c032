#include "tree/tree_mask.h"

#include <bit>

namespace forerun {

TreeMask::TreeMask(const DraftTree& tree)
    : stride_((static_cast<size_t>(tree.size()) + 63) / 64),
      words_(static_cast<size_t>(tree.size()) * stride_) {
  const std::span<const int32_t> parent = tree.parent();
  for (int32_t node = 0; node < tree.size(); ++node) {
    uint64_t* row = words_.data() + static_cast<size_t>(node) * stride_;
    if (parent[node] >= 0) {
      const uint64_t* above = words_.data() + static_cast<size_t>(parent[node]) * stride_;
      for (size_t word = 0; word < stride_; ++word) row[word] = above[word];
    }
    row[node / 64] |= uint64_t{1} << (node % 64);
  }
}

std::vector<int32_t> TreeMask::path(int32_t node) const {
  std::vector<int32_t>
      nodes;  // ancestors have lower indices, so ascending bits go from the root down
  const std::span<const uint64_t> words = row(node);
  for (size_t word = 0; word < words.size(); ++word) {
    for (uint64_t bits = words[word]; bits != 0; bits &= bits - 1) {
      nodes.push_back(static_cast<int32_t>(word * 64) + std::countr_zero(bits));
    }
  }
  return nodes;
}

}  // namespace forerun
