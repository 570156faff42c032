#include "model/batch.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace forerun {

void Batch::clear() {
  token_.clear();
  position_.clear();
  logit_row_.clear();
  row_.clear();
  path_.clear();
  sequences_ = 0;
  layouts_.clear();
  for (auto& pages : pages_) pages.clear();
}

int32_t Batch::add_sequence(KvCache& cache, int32_t rows) {
  const std::span<const KvPlace> places = cache.places();
  if (sequences_ == 0) {
    for (const KvPlace& place : places) layouts_.push_back(place.layout);
    if (pages_.size() < places.size()) pages_.resize(places.size());
  }
  const auto same = [](const KvLayout& a, const KvPlace& b) { return a == b.layout; };
  if (!std::equal(layouts_.begin(), layouts_.end(), places.begin(), places.end(), same)) {
    throw Error(ErrorKind::kBadArgument, "a batch of caches with different layouts");
  }
  cache.prepare(rows);
  for (size_t place = 0; place < places.size(); ++place) {
    pages_[place].push_back(cache.pages(place));
  }
  return sequences_++;
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

void Batch::add_spans(KvCache& cache, const DraftTree& tree, std::span<const int32_t> nodes,
                      int32_t length) {
  const int32_t sequence = add_sequence(cache, tree.size() * length), base = cache.length();
  const auto above = [&tree](int32_t node) { return tree.parent()[static_cast<size_t>(node)]; };
  for (const int32_t node : nodes) {
    const int32_t depth = tree.depth()[static_cast<size_t>(node)];
    const size_t begin = path_.size();
    path_.resize(begin + static_cast<size_t>(depth) + 1);
    path_[begin] = base;
    for (int32_t end = node, d = depth; d > 0; d -= length) {
      for (int32_t back = 0; back < length; ++back) {
        path_[begin + static_cast<size_t>(d - back)] = base + end * length + back;
      }
      for (int32_t i = 0; i < length; ++i) end = above(end);
    }
    for (int32_t back = length - 1; back >= 0; --back) {
      int32_t at = node;
      for (int32_t i = 0; i < std::min(back, depth); ++i) at = above(at);
      logit_row_.push_back(rows());
      token_.push_back(tree.token()[static_cast<size_t>(at)]);
      position_.push_back(base + depth - back);
      row_.push_back(
          {sequence, base + depth, base + node * length + back, base, static_cast<int32_t>(begin)});
    }
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

AttentionBatch Batch::attention(size_t place) const {
  if (place >= layouts_.size()) return {{}, row_, path_, {}};  // no keys and values lie there
  return {layouts_[place], row_, path_, pages_[place]};
}

}  // namespace forerun
