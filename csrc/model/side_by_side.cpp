// The attention halves of a group of layers, side by side: on several back ends at the same time,
// on one in turn. A layer that attends on another back end than its own is a group of one.

#include <algorithm>
#include <exception>

#include "base/trace.h"
#include "model/model.h"

namespace forerun {

Workspace::Attending::Attending() : task([this] { model->attend_beside(*this); }) {}

Tensor Workspace::Activations::update(int32_t member, int32_t wanted) const {
  if (member == 0) return rows.update.first_rows(wanted);
  const int64_t before = int64_t{member - 1} * rows.update.rows;
  return Tensor(updates.row(static_cast<int32_t>(before)), wanted, updates.cols);
}

// Past the last of the layers that are run together with that at `begin`.
size_t Model::group_end(const LayerRun& run, size_t begin) const {
  size_t end = begin + 1;
  for (const LayerGroup& group : run.groups) {
    if (run.layers[begin] < group.first || run.layers[begin] >= group.last) continue;
    while (end < run.layers.size() && run.layers[end] < group.last) ++end;
  }
  return end;
}

// Of every layer, what its attention adds to the stream at `at`, which stays; in
// Activations::update.
void Model::attend_side_by_side(const Batch& batch, std::span<const int32_t> layers, size_t at,
                                Workspace& w) const {
  std::exception_ptr failure;
  const auto try_to = [&failure](const auto& work) {
    try {
      work();
    } catch (...) {
      if (!failure) failure = std::current_exception();
    }
  };
  const auto for_each_other = [&](const auto& visit) {
    for (size_t other = 0; other < backends_.size(); ++other) {
      const auto attends_there = [&](int32_t i) {
        return layers_[static_cast<size_t>(i)].attends_at == other;
      };
      if (other == at || std::none_of(layers.begin(), layers.end(), attends_there)) continue;
      visit(*w.on_[other].attending, queues_[other].get());
    }
  };
  const int64_t values = int64_t{batch.rows()} * config_.width;
  bool on_host = false;
  for_each_other([&](Workspace::Attending& attending, WorkQueue* queue) {
    if (!on_host) backends_[at]->download(w.host_.data(), w.on_[at].rows.x.data, values * 4);
    on_host = true;
    attending.model = this;
    attending.batch = &batch;
    attending.workspace = &w;
    attending.layers = layers;
    if (queue != nullptr) queue->start(attending.task);
  });
  try_to([&] { attend_at(at, batch, layers, w); });
  for_each_other([&](Workspace::Attending& attending, WorkQueue* queue) {
    try_to([&] { queue != nullptr ? queue->wait(attending.task) : attend_beside(attending); });
  });
  if (failure) std::rethrow_exception(failure);
  for (size_t member = 0; member < layers.size(); ++member) {
    const size_t from = layers_[static_cast<size_t>(layers[member])].attends_at;
    if (from == at) continue;
    const float* found =
        w.on_[from].attending->updates.data() + static_cast<int64_t>(member) * values;
    backends_[at]->upload(w.on_[at].update(static_cast<int32_t>(member), batch.rows()).data, found,
                          values * 4);
  }
}

// The layers that attend at this back end, where the stream is.
void Model::attend_at(size_t at, const Batch& batch, std::span<const int32_t> layers,
                      Workspace& w) const {
  const BlockShape shape = shape_of(config_);
  const AttentionBatch attention = batch.attention(at);
  for (size_t member = 0; member < layers.size(); ++member) {
    const Layer& layer = layers_[static_cast<size_t>(layers[member])];
    if (layer.attends_at != at) continue;
    BlockRows rows = w.on_[at].rows.first_rows(batch.rows());
    rows.update = w.on_[at].update(static_cast<int32_t>(member), batch.rows());
    const BlockRun run{*backends_[at], shape, attention, rows};
    run.attend_normed(layer.block, layer.kv_index);
  }
}

void Model::attend_beside(Workspace::Attending& attending) const {
  const size_t at = attending.at;
  Workspace& w = *attending.workspace;
  Backend& backend = *backends_[at];
  const int32_t rows = attending.batch->rows();
  const int64_t values = int64_t{rows} * config_.width;
  backend.upload(w.on_[at].rows.x.data, w.host_.data(), values * 4);
  attend_at(at, *attending.batch, attending.layers, w);
  for (size_t member = 0; member < attending.layers.size(); ++member) {
    const Layer& layer = layers_[static_cast<size_t>(attending.layers[member])];
    if (layer.attends_at != at) continue;
    backend.download(attending.updates.data() + static_cast<int64_t>(member) * values,
                     w.on_[at].update(static_cast<int32_t>(member), rows).data, values * 4);
  }
}

}  // namespace forerun
