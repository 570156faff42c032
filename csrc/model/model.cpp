#include "model/model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "base/blocks.h"
#include "base/error.h"
#include "base/trace.h"

namespace forerun {

Workspace::Activations::Activations(Backend& device, const ModelConfig& c, const Limits& most)
    : backend(&device) {
  int64_t floats = 0;
  const auto reserve = [&](Tensor& tensor, int32_t rows, int32_t cols) {
    tensor = Tensor(nullptr, rows, cols);
    floats += (int64_t{rows} * cols + 15) / 16 * 16;
  };
  const int32_t attention_width = c.heads * c.head_dim;
  for (Tensor* tensor : {&x, &normed, &update}) reserve(*tensor, most.rows, c.width);
  for (Tensor* tensor : {&q, &attended}) reserve(*tensor, most.rows, attention_width);
  for (Tensor* tensor : {&k, &v}) reserve(*tensor, most.rows, c.kv_heads * c.head_dim);
  for (Tensor* tensor : {&gate, &up}) reserve(*tensor, most.rows, c.ffn_width);
  reserve(cos_sin, most.rows, c.rope.rotary);
  reserve(hidden, most.logit_rows, c.width);
  reserve(logits, most.logit_rows, c.vocab);
  reserve(taps, most.rows, most.taps * c.width);

  memory = device.allocate(floats * static_cast<int64_t>(sizeof(float)));
  float* at = memory.floats();
  for (Tensor* tensor : {&x, &normed, &update, &q, &attended, &k, &v, &gate, &up, &cos_sin, &hidden,
                         &logits, &taps}) {
    tensor->data = at;
    at += (int64_t{tensor->rows} * tensor->cols + 15) / 16 * 16;
  }
  device.reserve(most.rows, std::max({c.width, c.ffn_width, attention_width}));
}

void Workspace::reserve_host(const ModelConfig& c) {
  host_.resize(static_cast<size_t>(max_rows_) *
               static_cast<size_t>(std::max(c.width, c.rope.rotary)));
  if (max_taps_ == 0) return;
  all_rows_.resize(static_cast<size_t>(max_rows_));
  std::iota(all_rows_.begin(), all_rows_.end(), 0);
}

Workspace::Workspace(Backend& backend, const ModelConfig& c, int32_t max_rows,
                     int32_t max_logit_rows, int32_t max_taps)
    : max_rows_(max_rows), max_logit_rows_(max_logit_rows), max_taps_(max_taps) {
  on_.emplace_back(backend, c, Limits{max_rows, max_logit_rows, max_taps});
  reserve_host(c);
}

Workspace::Workspace(const Model& model, int32_t max_rows, int32_t max_logit_rows, int32_t max_taps)
    : max_rows_(max_rows), max_logit_rows_(max_logit_rows), max_taps_(max_taps) {
  const Limits of_head{max_rows, max_logit_rows, max_taps}, of_others{max_rows, 0, 0};
  for (const auto& backend : model.backends()) {
    const bool is_head = backend.get() == &model.backend();
    on_.emplace_back(*backend, model.config(), is_head ? of_head : of_others);
  }
  reserve_host(model.config());
}

std::vector<KvPlace> Model::kv_places(DType type) const {
  std::vector<KvPlace> places;
  for (const auto& backend : backends_) {
    KvLayout layout = kv_layout(type);
    layout.layers =
        static_cast<int32_t>(std::count_if(layers_.begin(), layers_.end(), [&](const Layer& layer) {
          return backends_[layer.at] == backend;
        }));
    if (layout.layers > 0) places.push_back({backend.get(), layout});
  }
  return places;
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

// The residual stream before the first layer, and the rotations of all layers. Returns where the
// stream lies.
size_t Model::start(const Batch& batch, const LayerRun& run, Workspace& w) const {
  const int32_t rows = batch.rows();
  const size_t first = run.layers.empty() ? 0 : static_cast<size_t>(run.layers[0]);
  const bool goes_on = run.start != nullptr && first > 0;
  const size_t at = run.layers.empty() ? head_at_ : layers_[goes_on ? first - 1 : first].at;
  const Tensor x = w.on_[at].x.first_rows(rows);
  const size_t width = static_cast<size_t>(config_.width);
  TraceRecorder* const recorder = backend().recorder();
  if (run.start == nullptr) {
    TraceScope scope(recorder, TraceTrack::kOperation, "embed", rows);
    scope.span.bytes = rows * (dtype_bytes(embedding_->dtype, config_.width) + 4 * config_.width);
    for (size_t i = 0; i < batch.token().size(); ++i) {
      embedding(batch.token()[i], std::span(w.host_).subspan(i * width, width));
    }
    backends_[at]->upload(x.data, w.host_.data(), int64_t{rows} * config_.width * 4);
  } else if (run.start->data != x.data) {
    backends_[at]->copy(x.data, run.start->data, int64_t{rows} * config_.width * 4);
  }
  const TraceScope scope(recorder, TraceTrack::kOperation, "rope_table", rows);
  rope_rows(config_.rope, rope_frequencies_, batch.position(), w.host_.data());
  for (size_t i = 0; i < backends_.size(); ++i) {
    backends_[i]->upload(w.on_[i].cos_sin.data, w.host_.data(),
                         int64_t{rows} * config_.rope.rotary * 4);
  }
  return at;
}

// Copies activations to another back end.
void Model::carry(size_t from, size_t to, const Tensor& x, const Tensor& out, Workspace& w) const {
  const TraceScope scope(backend().recorder(), TraceTrack::kOperation, "cross", x.rows);
  const int64_t bytes = int64_t{x.rows} * config_.width * 4;
  backends_[from]->download(w.host_.data(), x.data, bytes);
  backends_[to]->upload(out.data, w.host_.data(), bytes);
}

// Brings the residual stream to where it is needed, and says where that is.
size_t Model::enter(size_t from, size_t to, int32_t rows, Workspace& w) const {
  if (from != to) {
    carry(from, to, w.on_[from].x.first_rows(rows), w.on_[to].x.first_rows(rows), w);
  }
  return to;
}

void Model::attention_block(const Layer& layer, const AttentionBatch& batch, int32_t rows,
                            Workspace::Activations& a) const {
  Backend& backend = *a.backend;
  const Tensor normed = a.normed.first_rows(rows), update = a.update.first_rows(rows);
  const Tensor q = a.q.first_rows(rows), k = a.k.first_rows(rows), v = a.v.first_rows(rows);
  const Tensor attended = a.attended.first_rows(rows), cos_sin = a.cos_sin.first_rows(rows);
  backend.rms_norm(a.x.first_rows(rows), layer.attention_norm.floats(), config_.norm_epsilon,
                   normed);
  const LinearTask qkv[] = {layer.q.task(q, "linear.qkv"), layer.k.task(k), layer.v.task(v)};
  backend.linear(normed, qkv);
  if (layer.q_norm.bytes() > 0) {
    backend.head_norm(q, config_.heads, layer.q_norm.floats(), config_.norm_epsilon);
    backend.head_norm(k, config_.kv_heads, layer.k_norm.floats(), config_.norm_epsilon);
  }
  backend.rope(q, config_.heads, cos_sin, config_.rope.interleaved);
  backend.rope(k, config_.kv_heads, cos_sin, config_.rope.interleaved);
  backend.store_kv(batch, layer.kv_index, k, v);
  const float scale = 1.0F / std::sqrt(static_cast<float>(config_.head_dim));
  backend.attention(batch, layer.kv_index, q, scale, attended);
  const LinearTask output[] = {layer.output.task(update, "linear.output")};
  backend.linear(attended, output);
  backend.add(a.x.first_rows(rows), update);
}

void Model::ffn_block(const Layer& layer, int32_t rows, Workspace::Activations& a) const {
  Backend& backend = *a.backend;
  const Tensor normed = a.normed.first_rows(rows), update = a.update.first_rows(rows);
  const Tensor gate = a.gate.first_rows(rows), up = a.up.first_rows(rows);
  backend.rms_norm(a.x.first_rows(rows), layer.ffn_norm.floats(), config_.norm_epsilon, normed);
  const LinearTask gate_up[] = {layer.gate.task(gate, "linear.gate_up"), layer.up.task(up)};
  backend.linear(normed, gate_up);
  backend.swiglu(gate, up, gate);
  const LinearTask down[] = {layer.down.task(update, "linear.down")};
  backend.linear(gate, down);
  backend.add(a.x.first_rows(rows), update);
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
    const Layer& found = layers_[static_cast<size_t>(layer)];
    if (found.kv_index >= batch.attention(found.at).layout.layers) {
      fail("the caches of a batch have no place for layer " + std::to_string(layer) +
           "; make them with the model's kv_places");
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

// Hands out the residual stream before `layer`, or what kFinalTap says; it lies on back end `at`.
void Model::tap(int32_t layer, size_t at, const LayerRun& run, int32_t rows, Workspace& w) const {
  Workspace::Activations& a = w.on_[head_at_];
  for (size_t i = 0; i < run.taps.size(); ++i) {
    if (run.taps[i] != layer) continue;
    Tensor out(a.taps.data + static_cast<int64_t>(i) * config_.width, rows, config_.width);
    out.stride = static_cast<int64_t>(run.taps.size()) * config_.width;
    Tensor x = w.on_[at].x.first_rows(rows);
    if (at != head_at_) {
      const Tensor landed = a.normed.first_rows(rows);  // free between layers
      carry(at, head_at_, x, landed, w);
      x = landed;
    }
    if (layer == kFinalTap) {
      a.backend->rms_norm(x, final_norm_.floats(), config_.norm_epsilon, out);
    } else {
      a.backend->gather_rows(x, std::span(w.all_rows_).first(static_cast<size_t>(rows)), out);
    }
  }
}

Forward Model::forward(const Batch& batch, Workspace& w, const LayerRun& run) const {
  check(batch, run, w);
  const int32_t rows = batch.rows();
  const int32_t logit_rows = static_cast<int32_t>(batch.logit_row().size());
  size_t at = start(batch, run, w);

  for (const int32_t i : run.layers) {
    const Layer& layer = layers_[static_cast<size_t>(i)];
    at = enter(at, layer.at, rows, w);
    tap(i, at, run, rows, w);
    attention_block(layer, batch.attention(at), rows, w.on_[at]);
    ffn_block(layer, rows, w.on_[at]);
  }
  tap(kFinalTap, at, run, rows, w);

  const Tensor stream = w.on_[at].x.first_rows(rows);
  Workspace::Activations& a = w.on_[head_at_];
  const Tensor hidden = a.hidden.first_rows(logit_rows), logits = a.logits.first_rows(logit_rows);
  if (logit_rows > 0) {
    enter(at, head_at_, rows, w);
    a.backend->gather_rows(a.x.first_rows(rows), batch.logit_row(), hidden);
    a.backend->rms_norm(hidden, final_norm_.floats(), config_.norm_epsilon, hidden);
    const LinearTask head[] = {head_.task(logits, "linear.head")};
    a.backend->linear(hidden, head);
  }
  const Tensor taps(a.taps.data, rows, static_cast<int32_t>(run.taps.size()) * config_.width);
  return {logits, hidden, stream, taps};
}

}  // namespace forerun
