#include "tree/prune.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace forerun {

void TreePruner::reserve(int32_t nodes) {
  const auto count = static_cast<size_t>(nodes);
  value_.reserve(count);
  capped_.reserve(count);
  order_.reserve(count);
  node_of_.reserve(count);
  keep_.reserve(count);
}

std::span<const float> TreePruner::path_values(const DraftTree& tree) {
  value_.resize(static_cast<size_t>(tree.size()));
  value_[DraftTree::kRoot] = 1.0F;
  for (int32_t node = 1; node < tree.size(); ++node) {
    value_[node] = value_[tree.parent()[node]] * tree.score()[node];
  }
  return value_;
}

std::span<const int32_t> TreePruner::order(const DraftTree& tree, std::span<const float> values) {
  capped_.assign(values.begin(), values.end());
  order_.clear();
  for (int32_t node = 1; node < tree.size(); ++node) {
    const float above = capped_[tree.parent()[node]];
    if (!(capped_[node] <= above)) capped_[node] = above;
    order_.push_back(node);
  }
  std::sort(order_.begin(), order_.end(), [this](int32_t a, int32_t b) {
    return capped_[a] != capped_[b] ? capped_[a] > capped_[b] : a < b;
  });
  return order_;
}

void TreePruner::keep_best(DraftTree& tree, std::span<const float> values, int32_t nodes) {
  if (nodes >= tree.drafted()) return;
  const std::span<const int32_t> best = order(tree, values);
  keep_.assign(static_cast<size_t>(tree.size()), 0);
  keep_[DraftTree::kRoot] = 1;
  for (int32_t i = 0; i < nodes; ++i) keep_[best[i]] = 1;
  tree.keep_only(keep_);
}

void TreePruner::fuse(const DraftTree& other, DraftTree& tree) {
  if (other.token()[DraftTree::kRoot] != tree.token()[DraftTree::kRoot]) {
    throw Error(ErrorKind::kBadArgument, "draft tree: cannot fuse a tree with root token " +
                                             std::to_string(other.token()[DraftTree::kRoot]) +
                                             " into one with root token " +
                                             std::to_string(tree.token()[DraftTree::kRoot]));
  }
  if (other.sampled() || tree.sampled()) {
    throw Error(ErrorKind::kBadArgument,
                "draft tree: a tree whose nodes are draws cannot be fused with another; the order "
                "and the law of its draws would be lost");
  }
  node_of_.resize(static_cast<size_t>(other.size()));
  node_of_[DraftTree::kRoot] = DraftTree::kRoot;
  for (int32_t node = 1; node < other.size(); ++node) {
    node_of_[node] = tree.add(node_of_[other.parent()[node]], other.token()[node],
                              other.score()[node], other.source()[node]);
  }
}

}  // namespace forerun
