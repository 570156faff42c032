#include "model/block.h"

#include <cmath>

#include "model/config.h"

namespace forerun {
namespace {
constexpr int64_t kAlign = 16;  // floats: a cache line

int64_t padded(const Tensor& tensor) {
  return (int64_t{tensor.rows} * tensor.cols + kAlign - 1) / kAlign * kAlign;
}
}  // namespace

BlockShape shape_of(const ModelConfig& c) {
  return {c.width,    c.ffn_width,   c.heads,        c.kv_heads,
          c.head_dim, c.rope.rotary, c.norm_epsilon, c.rope.interleaved};
}

void TensorArena::add(Tensor& tensor, int32_t rows, int32_t cols) {
  tensor = Tensor(nullptr, rows, cols);
  floats_ += padded(tensor);
  tensors_.push_back(&tensor);
}

Buffer TensorArena::allocate(Backend& backend) {
  Buffer memory = backend.allocate(floats_ * static_cast<int64_t>(sizeof(float)));
  float* at = memory.floats();
  for (Tensor* tensor : tensors_) {
    tensor->data = at;
    at += padded(*tensor);
  }
  return memory;
}

void BlockRows::add_to(TensorArena& arena, const BlockShape& s, int32_t rows) {
  for (Tensor* tensor : {&x, &normed, &update}) arena.add(*tensor, rows, s.width);
  for (Tensor* tensor : {&q, &attended}) arena.add(*tensor, rows, s.heads * s.head_dim);
  for (Tensor* tensor : {&k, &v}) arena.add(*tensor, rows, s.kv_heads * s.head_dim);
  for (Tensor* tensor : {&gate, &up}) arena.add(*tensor, rows, s.ffn_width);
  arena.add(cos_sin, rows, s.rotary);
}

BlockRows BlockRows::first_rows(int32_t n) const {
  BlockRows view = *this;
  for (Tensor* tensor : {&view.x, &view.normed, &view.update, &view.q, &view.k, &view.v,
                         &view.attended, &view.gate, &view.up, &view.cos_sin}) {
    tensor->rows = n;
  }
  return view;
}

void BlockRun::attend(const Block& block, int32_t index, Tensor input, Tensor shown) const {
  const LinearTask qkv[] = {block.q.task(rows.q, "linear.qkv"), block.k.task(rows.k),
                            block.v.task(rows.v)};
  if (input.data == shown.data) {
    backend.linear(input, qkv);
  } else {
    backend.linear(input, std::span(qkv).first(1));
    backend.linear(shown, std::span(qkv).subspan(1));
  }
  if (block.q_norm.bytes() > 0) {
    backend.head_norm(rows.q, shape.heads, block.q_norm.floats(), shape.norm_epsilon);
    backend.head_norm(rows.k, shape.kv_heads, block.k_norm.floats(), shape.norm_epsilon);
  }
  backend.rope(rows.q, shape.heads, rows.cos_sin, shape.interleaved);
  backend.rope(rows.k, shape.kv_heads, rows.cos_sin, shape.interleaved);
  backend.store_kv(batch, index, rows.k, rows.v);
  const float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  backend.attention(batch, index, rows.q, scale, rows.attended);
  const LinearTask output[] = {block.output.task(rows.update, "linear.output")};
  backend.linear(rows.attended, output);
}

// The residual of the attention is added on the way to the norm.
void BlockRun::feed_forward(const Block& block) const {
  if (!block.gate.weight) return backend.add(rows.x, rows.update);
  backend.add_rms_norm(rows.x, rows.update, block.ffn_norm.floats(), shape.norm_epsilon,
                       rows.normed);
  backend.gated_linear(rows.normed, block.gate.task(rows.gate, "linear.gate_up"),
                       block.up.task(rows.up));
  const LinearTask down[] = {block.down.task(rows.update, "linear.down")};
  backend.linear(rows.gate, down);
  backend.add(rows.x, rows.update);
}

void BlockRun::attend_normed(const Block& block, int32_t index) const {
  Tensor input = rows.x;
  if (block.attention_norm.bytes() > 0) {
    backend.rms_norm(rows.x, block.attention_norm.floats(), shape.norm_epsilon, rows.normed);
    input = rows.normed;
  }
  attend(block, index, input, input);
}

void BlockRun::run(const Block& block, int32_t index) const {
  attend_normed(block, index);
  feed_forward(block);
}

}  // namespace forerun
