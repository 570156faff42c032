#include "model/model.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "base/blocks.h"
#include "base/error.h"
#include "base/trace.h"

namespace forerun {

namespace {

BlockShape shape_of(const ModelConfig& c) {
  return {c.width,    c.ffn_width,   c.heads,        c.kv_heads,
          c.head_dim, c.rope.rotary, c.norm_epsilon, c.rope.interleaved};
}

}  // namespace

Workspace::Workspace(Backend& backend, const ModelConfig& c, int32_t max_rows,
                     int32_t max_logit_rows, int32_t max_taps)
    : max_rows_(max_rows), max_logit_rows_(max_logit_rows), max_taps_(max_taps) {
  TensorArena arena;
  rows_.add_to(arena, shape_of(c), max_rows);
  arena.add(hidden_, max_logit_rows, c.width);
  arena.add(logits_, max_logit_rows, c.vocab);
  arena.add(taps_, max_rows, max_taps * c.width);
  memory_ = arena.allocate(backend);
  if (max_taps > 0) {
    all_rows_.resize(static_cast<size_t>(max_rows));
    std::iota(all_rows_.begin(), all_rows_.end(), 0);
  }
  host_.resize(static_cast<size_t>(max_rows) *
               static_cast<size_t>(std::max(c.width, c.rope.rotary)));
  backend.reserve(max_rows, std::max({c.width, c.ffn_width, c.heads * c.head_dim}));
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
  const Tensor x = w.rows_.x.first_rows(rows);
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
  backend_->upload(w.rows_.cos_sin.data, w.host_.data(), int64_t{rows} * config_.rope.rotary * 4);
}

void Model::check(const Batch& batch, const LayerRun& run, const Workspace& w) const {
  const auto fail = [](const std::string& what) { throw Error(ErrorKind::kBadArgument, what); };
  const int32_t rows = batch.rows();
  const int32_t logit_rows = static_cast<int32_t>(batch.logit_row().size());
  if (rows > w.max_rows() || logit_rows > w.max_logit_rows()) {
    fail("a batch of " + std::to_string(rows) + " rows and " + std::to_string(logit_rows) +
         " logit rows in a workspace for " + std::to_string(w.max_rows()) + " and " +
         std::to_string(w.max_logit_rows()));
  }
  if (run.start != nullptr && (run.start->rows != rows || run.start->cols != config_.width)) {
    fail("a forward of " + std::to_string(rows) + " rows of " + std::to_string(config_.width) +
         " values starts with " + std::to_string(run.start->rows) + " of " +
         std::to_string(run.start->cols));
  }
  for (const int32_t layer : run.layers) {
    if (layer < 0 || layer >= config_.layers) {
      fail("layer " + std::to_string(layer) + " of a model of " + std::to_string(config_.layers) +
           " layers");
    }
  }
  if (run.taps.size() > static_cast<size_t>(w.max_taps())) {
    fail(std::to_string(run.taps.size()) + " taps in a workspace for " +
         std::to_string(w.max_taps()));
  }
  for (const int32_t tap : run.taps) {
    if (tap != kFinalTap &&
        std::find(run.layers.begin(), run.layers.end(), tap) == run.layers.end())
      fail("a tap before layer " + std::to_string(tap) + ", which is not run; of a model of " +
           std::to_string(config_.layers) + " layers");
  }
}

// Hands out the residual stream before `layer`, or what kFinalTap says.
void Model::tap(int32_t layer, const LayerRun& run, int32_t rows, Workspace& w) const {
  for (size_t i = 0; i < run.taps.size(); ++i) {
    if (run.taps[i] != layer) continue;
    Tensor out(w.taps_.data + static_cast<int64_t>(i) * config_.width, rows, config_.width);
    out.stride = static_cast<int64_t>(run.taps.size()) * config_.width;
    const Tensor x = w.rows_.x.first_rows(rows);
    if (layer == kFinalTap) {
      backend_->rms_norm(x, final_norm_.floats(), config_.norm_epsilon, out);
    } else {
      backend_->gather_rows(x, std::span(w.all_rows_).first(static_cast<size_t>(rows)), out);
    }
  }
}

Forward Model::forward(const Batch& batch, Workspace& w, const LayerRun& run) const {
  check(batch, run, w);
  const int32_t rows = batch.rows();
  const int32_t logit_rows = static_cast<int32_t>(batch.logit_row().size());
  start(batch, run, w);

  const AttentionBatch attention = batch.attention();
  const BlockShape shape = shape_of(config_);
  const BlockRun blocks{*backend_, shape, attention, w.rows_.first_rows(rows)};
  for (const int32_t i : run.layers) {
    tap(i, run, rows, w);
    blocks.run(layers_[static_cast<size_t>(i)], i);
  }
  tap(kFinalTap, run, rows, w);

  const Tensor hidden = w.hidden_.first_rows(logit_rows), logits = w.logits_.first_rows(logit_rows);
  if (logit_rows > 0) {
    backend_->gather_rows(w.rows_.x.first_rows(rows), batch.logit_row(), hidden);
    backend_->rms_norm(hidden, final_norm_.floats(), config_.norm_epsilon, hidden);
    const LinearTask head[] = {head_.task(logits, "linear.head")};
    backend_->linear(hidden, head);
  }
  const Tensor taps(w.taps_.data, rows, static_cast<int32_t>(run.taps.size()) * config_.width);
  return {logits, hidden, w.rows_.x.first_rows(rows), taps};
}

}  // namespace forerun
