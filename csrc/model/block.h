#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/backend.h"

namespace forerun {

// A matrix product with its bias.
struct Linear {
  std::unique_ptr<Weight> weight;
  Buffer bias;  // empty when there is none
  LinearTask task(Tensor out, const char* role = "linear") const {
    return {weight.get(), bias.floats(), out, role};
  }
};

// The weights of a decoder block: grouped-query attention with RoPE, then SwiGLU, each added to the
// residual stream. Empty norms are left out, and the second half where there is no gate.
struct Block {
  Buffer attention_norm, ffn_norm, q_norm, k_norm;
  Linear q, k, v, output, gate, up, down;
};

struct BlockShape {
  int32_t width = 0, ffn_width = 0, heads = 0, kv_heads = 0, head_dim = 0, rotary = 0;
  float norm_epsilon = 0.0F;
  bool interleaved = false;  // of RoPE
};

struct ModelConfig;
BlockShape shape_of(const ModelConfig& config);

// Lays tensors out one after another in a buffer.
class TensorArena {
 public:
  void add(Tensor& tensor, int32_t rows, int32_t cols);
  Buffer allocate(Backend& backend);  // the tensors added point into it

 private:
  std::vector<Tensor*> tensors_;
  int64_t floats_ = 0;
};

// Activations of a block.
struct BlockRows {
  Tensor x, normed, update;  // [rows, width]: residual stream, normalised input, what is added
  Tensor q, k, v, attended;  // [rows, heads * head_dim]
  Tensor gate, up;           // [rows, ffn_width]
  Tensor cos_sin;            // [rows, rotary]

  void add_to(TensorArena& arena, const BlockShape& shape, int32_t rows);
  BlockRows first_rows(int32_t rows) const;
};

// Blocks over the rows of one batch.
struct BlockRun {
  Backend& backend;
  const BlockShape& shape;
  const AttentionBatch& batch;
  BlockRows rows;

  // rows.update = attention of `input` to what the rows see, themselves included. Keys and values
  // are of `shown`, and go to layer `index` of the cache.
  void attend(const Block& block, int32_t index, Tensor input, Tensor shown) const;
  // rows.x += rows.update, then += SwiGLU of the normalised x.
  void feed_forward(const Block& block) const;
  // rows.update = attention of the normalised x; x stays.
  void attend_normed(const Block& block, int32_t index) const;
  // Both halves of a block: attention of the normalised x, then SwiGLU.
  void run(const Block& block, int32_t index) const;
};

}  // namespace forerun
