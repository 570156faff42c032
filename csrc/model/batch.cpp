#include "model/batch.h"

#include <string>

#include "base/error.h"

namespace forerun {

void Batch::clear() {
  token_.clear();
  position_.clear();
  logit_row_.clear();
  row_.clear();
  path_.clear();
  pages_.clear();
}

int32_t Batch::add_sequence(KvCache& cache, int32_t rows) {
  if (pages_.empty()) layout_ = cache.layout();
  if (layout_ != cache.layout()) {
    throw Error(ErrorKind::kBadArgument, "a batch of caches with different layouts");
  }
  cache.prepare(rows);
  pages_.push_back(cache.pages());
  return static_cast<int32_t>(pages_.size()) - 1;
}

void Batch::add_causal(KvCache& cache, std::span<const int32_t> tokens, int32_t logit_rows) {
  const int32_t count = static_cast<int32_t>(tokens.size());
  const int32_t sequence = add_sequence(cache, count);
  for (int32_t i = 0; i < count; ++i) {
    const int32_t position = cache.length() + i;
    if (i >= count - logit_rows) logit_row_.push_back(rows());
    token_.push_back(tokens[static_cast<size_t>(i)]);
    position_.push_back(position);
    row_.push_back({sequence, position, position, position + 1, 0});
  }
}

void Batch::add_tree(KvCache& cache, const DraftTree& tree, int32_t first_node) {
  const int32_t sequence = add_sequence(cache, tree.size());
  for (int32_t node = first_node; node < tree.size(); ++node) {
    logit_row_.push_back(rows());
    add_node(sequence, cache.length(), tree, node);
  }
}

void Batch::add_nodes(KvCache& cache, const DraftTree& tree, std::span<const int32_t> nodes,
                      int32_t logit_rows) {
  const int32_t sequence = add_sequence(cache, tree.size());
  const size_t without = nodes.size() - static_cast<size_t>(logit_rows);
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (i >= without) logit_row_.push_back(rows());
    add_node(sequence, cache.length(), tree, nodes[i]);
  }
}

void Batch::add_again(KvCache& cache, int32_t first, std::span<const int32_t> tokens) {
  const int32_t count = static_cast<int32_t>(tokens.size());
  if (first < 0 || first + count > cache.length()) {
    throw Error(ErrorKind::kBadArgument,
                "positions " + std::to_string(first) + " to " + std::to_string(first + count - 1) +
                    " again, of a cache that holds " + std::to_string(cache.length()));
  }
  const int32_t sequence = add_sequence(cache, count);
  for (int32_t i = 0; i < count; ++i) {
    const int32_t position = first + i, slot = cache.length() + i;
    logit_row_.push_back(rows());
    token_.push_back(tokens[static_cast<size_t>(i)]);
    position_.push_back(position);
    row_.push_back({sequence, position, slot, position, static_cast<int32_t>(path_.size())});
    path_.push_back(slot);
  }
}

void Batch::add_node(int32_t sequence, int32_t base, const DraftTree& tree, int32_t node) {
  const int32_t depth = tree.depth()[static_cast<size_t>(node)];
  const size_t begin = path_.size();
  path_.resize(begin + static_cast<size_t>(depth) + 1);
  for (int32_t at = node, d = depth; d >= 0; --d) {
    path_[begin + static_cast<size_t>(d)] = base + at;
    at = tree.parent()[static_cast<size_t>(at)];
  }
  // Ancestors that lie in the slot of their own position belong to the prefix: a chain is causal.
  int32_t in_place = 0;
  while (in_place <= depth && path_[begin + static_cast<size_t>(in_place)] == base + in_place)
    ++in_place;
  token_.push_back(tree.token()[static_cast<size_t>(node)]);
  position_.push_back(base + depth);
  row_.push_back({sequence, base + depth, base + node, base + in_place,
                  static_cast<int32_t>(begin) + in_place});
}

AttentionBatch Batch::attention() const { return {layout_, row_, path_, pages_}; }

}  // namespace forerun
