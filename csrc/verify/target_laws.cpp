#include "verify/target_laws.h"

namespace forerun {

void SampledLaws::begin(const DraftTree& tree, const NodeLogits& logits, Sampler& sampler) {
  tree_ = &tree;
  logits_ = logits;
  sampler_ = &sampler;
  here_ = DraftTree::kRoot;
  known_ = -1;
}

void SampledLaws::move_to(int32_t node) {
  const std::span<const int32_t> parent = tree_->parent(), depth = tree_->depth();
  down_.clear();
  int32_t below = node;
  while (below != here_) {
    if (depth[below] >= depth[here_]) {
      down_.push_back(below);
      below = parent[below];
    } else {
      sampler_->pop(tree_->token()[here_]);
      here_ = parent[here_];
    }
  }
  for (size_t i = down_.size(); i-- > 0;) sampler_->push(tree_->token()[down_[i]]);
  here_ = node;
}

const TokenLaw& SampledLaws::at(int32_t node) {
  if (node != known_) {
    move_to(node);
    sampler_->distribution(logits_.row(node), law_);
    known_ = node;
  }
  return law_;
}

}  // namespace forerun
