#include "model/model.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "base/blocks.h"
#include "base/error.h"
#include "base/trace.h"

namespace forerun {

Workspace::Activations::Activations(Backend& device, const ModelConfig& c, const Limits& most)
    : backend(&device) {
  TensorArena arena;
  rows.add_to(arena, shape_of(c), most.rows);
  arena.add(hidden, most.logit_rows, c.width);
  arena.add(logits, most.logit_rows, c.vocab);
  arena.add(taps, most.rows, most.taps * c.width);
  arena.add(updates, most.rows * (most.group - 1), c.width);
  memory = arena.allocate(device);
  device.reserve(most.rows, std::max({c.width, c.ffn_width, c.heads * c.head_dim}));
}

void Workspace::reserve_host(const ModelConfig& c) {
  host_.resize(static_cast<size_t>(max_rows_) *
               static_cast<size_t>(std::max(c.width, c.rope.rotary)));
  if (max_taps_ == 0) return;
  all_rows_.resize(static_cast<size_t>(max_rows_));
  std::iota(all_rows_.begin(), all_rows_.end(), 0);
}

Workspace::Workspace(const Model& model, int32_t max_rows, int32_t max_logit_rows, int32_t max_taps,
                     int32_t max_group)
    : max_group_(max_group),
      max_rows_(max_rows),
      max_logit_rows_(max_logit_rows),
      max_taps_(max_taps) {
  const Limits of_head{max_rows, max_logit_rows, max_taps, max_group};
  const Limits of_others{max_rows, 0, 0, max_group};
  for (const auto& backend : model.backends()) {
    const bool is_head = backend.get() == &model.backend();
    on_.emplace_back(*backend, model.config(), is_head ? of_head : of_others);
    if (!model.attends_for_others_[on_.size() - 1]) continue;
    on_.back().attending = std::make_unique<Attending>();
    on_.back().attending->at = on_.size() - 1;
    on_.back().attending->updates.resize(static_cast<size_t>(max_group) *
                                         static_cast<size_t>(max_rows) *
                                         static_cast<size_t>(model.config().width));
  }
  reserve_host(model.config());
}

std::vector<KvPlace> Model::kv_places(DType type) const {
  std::vector<KvPlace> places;
  for (const auto& backend : backends_) {
    KvLayout layout = kv_layout(type);
    layout.layers =
        static_cast<int32_t>(std::count_if(layers_.begin(), layers_.end(), [&](const Layer& layer) {
          return backends_[layer.attends_at] == backend;
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
  const Tensor x = w.on_[at].rows.x.first_rows(rows);
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
    backends_[i]->upload(w.on_[i].rows.cos_sin.data, w.host_.data(),
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
    carry(from, to, w.on_[from].rows.x.first_rows(rows), w.on_[to].rows.x.first_rows(rows), w);
  }
  return to;
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
    if (found.kv_index >= batch.attention(found.attends_at).layout.layers) {
      fail("the caches of a batch have no place for layer " + std::to_string(layer) +
           "; make them with the model's kv_places");
    }
  }
  for (size_t begin = 0, end = 0; begin < run.layers.size(); begin = end) {
    end = group_end(run, begin);
    const auto together = static_cast<int32_t>(end - begin);
    if (together > w.max_group_) {
      fail("a group of " + std::to_string(together) + " layers in a workspace for groups of " +
           std::to_string(w.max_group_));
    }
    const size_t at = layers_[static_cast<size_t>(run.layers[begin])].at;
    for (size_t i = begin; i < end; ++i) {
      if (layers_[static_cast<size_t>(run.layers[i])].at == at) continue;
      fail("layers " + std::to_string(run.layers[begin]) + " and " + std::to_string(run.layers[i]) +
           " of one group lie on two back ends");
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
    Tensor x = w.on_[at].rows.x.first_rows(rows);
    if (at != head_at_) {
      const Tensor landed = a.rows.normed.first_rows(rows);  // free between layers
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
  const size_t first = start(batch, run, w);
  if (backends_.size() > 1) return layers_and_head(batch, run, first, w);
  Forward out;
  const auto work = [&] { out = layers_and_head(batch, run, first, w); };
  backends_[0]->sequence(std::ref(work));
  return out;
}

Forward Model::layers_and_head(const Batch& batch, const LayerRun& run, size_t at,
                               Workspace& w) const {
  const int32_t rows = batch.rows();
  const int32_t logit_rows = static_cast<int32_t>(batch.logit_row().size());
  const BlockShape shape = shape_of(config_);
  const AttentionBatch attention{};  // feed_forward() reads none
  for (size_t begin = 0; begin < run.layers.size();) {
    const size_t end = group_end(run, begin);
    const std::span<const int32_t> group = run.layers.subspan(begin, end - begin);
    at = enter(at, layers_[static_cast<size_t>(group[0])].at, rows, w);
    attend_side_by_side(batch, group, at, w);
    for (size_t member = 0; member < group.size(); ++member) {
      tap(group[member], at, run, rows, w);
      BlockRows own = w.on_[at].rows.first_rows(rows);
      own.update = w.on_[at].update(static_cast<int32_t>(member), rows);
      const BlockRun blocks{*backends_[at], shape, attention, own};
      blocks.feed_forward(layers_[static_cast<size_t>(group[member])].block);
    }
    begin = end;
  }
  tap(kFinalTap, at, run, rows, w);

  const Tensor stream = w.on_[at].rows.x.first_rows(rows);
  Workspace::Activations& a = w.on_[head_at_];
  const Tensor hidden = a.hidden.first_rows(logit_rows), logits = a.logits.first_rows(logit_rows);
  if (logit_rows > 0) {
    enter(at, head_at_, rows, w);
    a.backend->gather_rows(a.rows.x.first_rows(rows), batch.logit_row(), hidden);
    a.backend->rms_norm(hidden, final_norm_.floats(), config_.norm_epsilon, hidden);
    const LinearTask head[] = {head_.task(logits, "linear.head")};
    a.backend->linear(hidden, head);
  }
  const Tensor taps(a.taps.data, rows, static_cast<int32_t>(run.taps.size()) * config_.width);
  return {logits, hidden, stream, taps};
}

}  // namespace forerun
