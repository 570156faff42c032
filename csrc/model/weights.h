#pragma once

#include <string>

#include "io/checkpoint.h"

namespace forerun {

// The tensors of a model by role, whatever the file calls them. Roles carry GGUF's names:
// "token_embd.weight", "blk.3.attn_q.weight", "output_norm.weight"; a Hugging Face folder's names
// are derived from them.
class WeightSource {
 public:
  explicit WeightSource(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  const TensorSource* find(const std::string& role) const;
  // The tensor with exactly this shape, outermost first: Error(kBadFile) naming tensor, found and
  // expected shape.
  const TensorSource& matrix(const std::string& role, int64_t rows, int64_t cols) const;
  const TensorSource& vector(const std::string& role, int64_t size) const;
  std::string name(const std::string& role) const;  // in this file

 private:
  const TensorSource& shaped(const std::string& role, const std::vector<int64_t>& shape) const;
  const Checkpoint& checkpoint_;
};

}  // namespace forerun
