#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/token_law.h"
#include "tree/draft_tree.h"
#include "verify/node_logits.h"
#include "verify/sampler.h"

namespace forerun {

// p of the nodes of a tree: the target's distribution after a node, as plain decoding would sample
// it there.
class TargetLaws {
 public:
  virtual ~TargetLaws() = default;
  virtual const TokenLaw& at(int32_t node) = 0;  // valid until the next call
};

// From logits, through the sampler. Penalties depend on the path, so the sampler's history follows
// the node that is asked for: it ends with the root when the object is made, and with the tokens
// down to the last node asked for after that.
class SampledLaws final : public TargetLaws {
 public:
  void begin(const DraftTree& tree, const NodeLogits& logits, Sampler& sampler);
  const TokenLaw& at(int32_t node) override;
  void move_to(int32_t node);  // the history only

 private:
  const DraftTree* tree_ = nullptr;
  NodeLogits logits_;
  Sampler* sampler_ = nullptr;
  int32_t here_ = DraftTree::kRoot;
  int32_t known_ = -1;  // the node of law_
  TokenLaw law_;
  std::vector<int32_t> down_;
};

}  // namespace forerun
