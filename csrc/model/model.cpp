#include "model/model.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/blocks.h"
#include "base/error.h"
#include "base/trace.h"

namespace forerun {

Workspace::Workspace(Backend& backend, const ModelConfig& c, int32_t max_rows,
                     int32_t max_logit_rows)
    : max_rows_(max_rows), max_logit_rows_(max_logit_rows) {
  int64_t floats = 0;
  const auto reserve = [&](Tensor& tensor, int32_t rows, int32_t cols) {
    tensor = Tensor(nullptr, rows, cols);
    floats += (int64_t{rows} * cols + 15) / 16 * 16;
  };
  const int32_t attention_width = c.heads * c.head_dim;
  for (Tensor* tensor : {&x_, &normed_, &update_}) reserve(*tensor, max_rows, c.width);
  for (Tensor* tensor : {&q_, &attended_}) reserve(*tensor, max_rows, attention_width);
  for (Tensor* tensor : {&k_, &v_}) reserve(*tensor, max_rows, c.kv_heads * c.head_dim);
  for (Tensor* tensor : {&gate_, &up_}) reserve(*tensor, max_rows, c.ffn_width);
  reserve(cos_sin_, max_rows, c.rope.rotary);
  reserve(hidden_, max_logit_rows, c.width);
  reserve(logits_, max_logit_rows, c.vocab);

  memory_ = backend.allocate(floats * static_cast<int64_t>(sizeof(float)));
  float* at = memory_.floats();
  for (Tensor* tensor : {&x_, &normed_, &update_, &q_, &attended_, &k_, &v_, &gate_, &up_,
                         &cos_sin_, &hidden_, &logits_}) {
    tensor->data = at;
    at += (int64_t{tensor->rows} * tensor->cols + 15) / 16 * 16;
  }
  host_.resize(static_cast<size_t>(max_rows) *
               static_cast<size_t>(std::max(c.width, c.rope.rotary)));
  backend.reserve(max_rows, std::max({c.width, c.ffn_width, attention_width}));
}

void Model::embedding(int32_t token, std::span<float> out) const {
  if (token < 0 || token >= config_.vocab) {
    throw Error(ErrorKind::kBadArgument, "token id " + std::to_string(token) +
                                             " is outside the vocabulary of " +
                                             std::to_string(config_.vocab));
  }
  const int64_t row_bytes = dtype_bytes(embedding_->dtype, config_.width);
  dequantize(embedding_->dtype, embedding_->bytes.data() + token * row_bytes, config_.width,
             out.data());
}

// The residual stream before the first layer, and the rotations of all layers.
void Model::start(const Batch& batch, const LayerRun& run, Workspace& w) const {
  const int32_t rows = batch.rows();
  const Tensor x = w.x_.first_rows(rows);
  const size_t width = static_cast<size_t>(config_.width);
  if (run.start == nullptr) {
    TraceScope scope(backend_->recorder(), TraceTrack::kOperation, "embed", rows);
    scope.span.bytes = rows * (dtype_bytes(embedding_->dtype, config_.width) + 4 * config_.width);
    for (size_t i = 0; i < batch.token().size(); ++i) {
      embedding(batch.token()[i], std::span(w.host_).subspan(i * width, width));
    }
    backend_->upload(x.data, w.host_.data(), int64_t{rows} * config_.width * 4);
  } else if (run.start->data != x.data) {
    backend_->copy(x.data, run.start->data, int64_t{rows} * config_.width * 4);
  }
  const TraceScope scope(backend_->recorder(), TraceTrack::kOperation, "rope_table", rows);
  rope_rows(config_.rope, rope_frequencies_, batch.position(), w.host_.data());
  backend_->upload(w.cos_sin_.data, w.host_.data(), int64_t{rows} * config_.rope.rotary * 4);
}

void Model::attention_block(const Layer& layer, int32_t index, const AttentionBatch& batch,
                            int32_t rows, Workspace& w) const {
  const Tensor normed = w.normed_.first_rows(rows), update = w.update_.first_rows(rows);
  const Tensor q = w.q_.first_rows(rows), k = w.k_.first_rows(rows), v = w.v_.first_rows(rows);
  const Tensor attended = w.attended_.first_rows(rows), cos_sin = w.cos_sin_.first_rows(rows);
  backend_->rms_norm(w.x_.first_rows(rows), layer.attention_norm.floats(), config_.norm_epsilon,
                     normed);
  const LinearTask qkv[] = {layer.q.task(q, "linear.qkv"), layer.k.task(k), layer.v.task(v)};
  backend_->linear(normed, qkv);
  if (layer.q_norm.bytes() > 0) {
    backend_->head_norm(q, config_.heads, layer.q_norm.floats(), config_.norm_epsilon);
    backend_->head_norm(k, config_.kv_heads, layer.k_norm.floats(), config_.norm_epsilon);
  }
  backend_->rope(q, config_.heads, cos_sin, config_.rope.interleaved);
  backend_->rope(k, config_.kv_heads, cos_sin, config_.rope.interleaved);
  backend_->store_kv(batch, index, k, v);
  const float scale = 1.0F / std::sqrt(static_cast<float>(config_.head_dim));
  backend_->attention(batch, index, q, scale, attended);
  const LinearTask output[] = {layer.output.task(update, "linear.output")};
  backend_->linear(attended, output);
}

// The residual of the attention block is added on the way to the norm.
void Model::ffn_block(const Layer& layer, int32_t rows, Workspace& w) const {
  const Tensor normed = w.normed_.first_rows(rows), update = w.update_.first_rows(rows);
  const Tensor gate = w.gate_.first_rows(rows), up = w.up_.first_rows(rows);
  backend_->add_rms_norm(w.x_.first_rows(rows), update, layer.ffn_norm.floats(),
                         config_.norm_epsilon, normed);
  backend_->gated_linear(normed, layer.gate.task(gate, "linear.gate_up"), layer.up.task(up));
  const LinearTask down[] = {layer.down.task(update, "linear.down")};
  backend_->linear(gate, down);
  backend_->add(w.x_.first_rows(rows), update);
}

Forward Model::forward(const Batch& batch, Workspace& w, const LayerRun& run) const {
  const int32_t rows = batch.rows();
  const int32_t logit_rows = static_cast<int32_t>(batch.logit_row().size());
  if (rows > w.max_rows() || logit_rows > w.max_logit_rows()) {
    throw Error(ErrorKind::kBadArgument,
                "a batch of " + std::to_string(rows) + " rows and " + std::to_string(logit_rows) +
                    " logit rows in a workspace for " + std::to_string(w.max_rows()) + " and " +
                    std::to_string(w.max_logit_rows()));
  }
  if (run.start != nullptr && (run.start->rows != rows || run.start->cols != config_.width)) {
    throw Error(ErrorKind::kBadArgument,
                "a forward of " + std::to_string(rows) + " rows of " +
                    std::to_string(config_.width) + " values starts with " +
                    std::to_string(run.start->rows) + " of " + std::to_string(run.start->cols));
  }
  for (const int32_t layer : run.layers) {
    if (layer < 0 || layer >= config_.layers) {
      throw Error(ErrorKind::kBadArgument, "layer " + std::to_string(layer) + " of a model of " +
                                               std::to_string(config_.layers) + " layers");
    }
  }
  start(batch, run, w);

  const AttentionBatch attention = batch.attention();
  for (const int32_t i : run.layers) {
    const Layer& layer = layers_[static_cast<size_t>(i)];
    attention_block(layer, i, attention, rows, w);
    ffn_block(layer, rows, w);
  }

  const Tensor hidden = w.hidden_.first_rows(logit_rows), logits = w.logits_.first_rows(logit_rows);
  if (logit_rows > 0) {
    backend_->gather_rows(w.x_.first_rows(rows), batch.logit_row(), hidden);
    backend_->rms_norm(hidden, final_norm_.floats(), config_.norm_epsilon, hidden);
    const LinearTask head[] = {head_.task(logits, "linear.head")};
    backend_->linear(hidden, head);
  }
  return {logits, hidden, w.x_.first_rows(rows)};
}

}  // namespace forerun
