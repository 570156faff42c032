#include "tree/draft_tree.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace forerun {

const char* source_name(DraftSource source) {
  constexpr const char* kNames[kDraftSources] = {"root",    "ngram",     "suffix", "recycle",
                                                 "trigram", "retrieval", "model",  "early-exit",
                                                 "head",    "other"};
  return kNames[static_cast<size_t>(source)];
}

void DraftTree::reset(int32_t root_token) {
  token_.assign(1, root_token);
  parent_.assign(1, -1);
  depth_.assign(1, 0);
  score_.assign(1, 1.0F);
  source_.assign(1, DraftSource::kRoot);
  laws_.clear();
  law_tokens_.clear();
  law_q_.clear();
  draws_.clear();
}

void DraftTree::reserve(int32_t nodes) {
  const size_t count = static_cast<size_t>(std::max(nodes, 0));
  token_.reserve(count);
  parent_.reserve(count);
  depth_.reserve(count);
  score_.reserve(count);
  source_.reserve(count);
  renumbered_.reserve(count);
}

void DraftTree::check_parent(int32_t parent) const {
  if (parent >= 0 && parent < size()) return;
  throw Error(ErrorKind::kBadArgument, "draft tree: parent " + std::to_string(parent) +
                                           " is not one of its " + std::to_string(size()) +
                                           " nodes");
}

int32_t DraftTree::append(int32_t parent, int32_t token, float score, DraftSource source) {
  const float clamped = score > 0.0F ? std::min(score, 1.0F) : 0.0F;  // NaN fails the comparison
  const int32_t existing = child_with(parent, token);
  if (existing >= 0) {
    score_[existing] = std::max(score_[existing], clamped);
    return existing;
  }
  token_.push_back(token);
  parent_.push_back(parent);
  depth_.push_back(depth_[parent] + 1);
  score_.push_back(clamped);
  source_.push_back(source);
  return size() - 1;
}

int32_t DraftTree::add(int32_t parent, int32_t token, float score, DraftSource source) {
  check_parent(parent);
  if (find_law(parent) != nullptr) {
    throw Error(ErrorKind::kBadArgument,
                "draft tree: the children of node " + std::to_string(parent) +
                    " are drawn; one that was not drawn cannot stand among them");
  }
  return append(parent, token, score, source);
}

int32_t DraftTree::child_with(int32_t node, int32_t token) const {
  for (int32_t i = node + 1; i < size(); ++i) {
    if (parent_[i] == node && token_[i] == token) return i;
  }
  return -1;
}

int32_t DraftTree::max_depth() const {
  return depth_.empty() ? 0 : *std::max_element(depth_.begin(), depth_.end());
}

void DraftTree::keep_only(std::span<const uint8_t> keep) {
  if (static_cast<int32_t>(keep.size()) != size() || keep.empty() || keep[kRoot] == 0) {
    throw Error(ErrorKind::kBadArgument,
                "draft tree: keep_only needs one flag for each of its " + std::to_string(size()) +
                    " nodes, the root's set; found " + std::to_string(keep.size()));
  }
  for (int32_t i = 1; i < size(); ++i) {
    if (keep[i] != 0 && keep[parent_[i]] == 0) {
      throw Error(ErrorKind::kBadArgument, "draft tree: keep_only keeps node " + std::to_string(i) +
                                               " without its parent " + std::to_string(parent_[i]));
    }
  }
  if (sampled()) {
    if (std::find(keep.begin(), keep.end(), 0) == keep.end()) return;
    throw Error(ErrorKind::kBadArgument,
                "draft tree: its nodes are draws; dropping some afterwards would bias the text, so "
                "the size is to be decided before they are drawn");
  }
  renumbered_.resize(keep.size());
  int32_t kept = 0;
  for (int32_t i = 0; i < size(); ++i) {
    if (keep[i] == 0) continue;
    renumbered_[i] = kept;
    token_[kept] = token_[i];
    parent_[kept] = i == kRoot ? -1 : renumbered_[parent_[i]];
    depth_[kept] = depth_[i];
    score_[kept] = score_[i];
    source_[kept] = source_[i];
    ++kept;
  }
  token_.resize(kept);
  parent_.resize(kept);
  depth_.resize(kept);
  score_.resize(kept);
  source_.resize(kept);
}

}  // namespace forerun
