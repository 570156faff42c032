#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/work_queue.h"
#include "io/checkpoint.h"
#include "model/batch.h"
#include "model/block.h"
#include "model/config.h"
#include "model/layer_groups.h"

namespace forerun {

class Model;

// A tap: hidden states that a forward hands out of all its rows, for heads that draft from them.
// l >= 0: the residual stream as layer l gets it, before any norm; kFinalTap: after the final norm.
inline constexpr int32_t kFinalTap = -1;

// Activations of a forward; one per thread of control that calls forward, reused over steps.
class Workspace {
 public:
  // On all back ends of a model. max_taps, max_group: taps, and layers of a group, that a forward
  // may ask for
  Workspace(const Model& model, int32_t max_rows, int32_t max_logit_rows, int32_t max_taps = 0,
            int32_t max_group = 1);
  int32_t max_rows() const { return max_rows_; }
  int32_t max_logit_rows() const { return max_logit_rows_; }
  int32_t max_taps() const { return max_taps_; }

 private:
  friend class Model;
  struct Limits {
    int32_t rows = 0, logit_rows = 0, taps = 0, group = 1;
  };
  // What a back end that attends for another does meanwhile, and what it brings.
  struct Attending {
    Attending();
    const Model* model = nullptr;
    const Batch* batch = nullptr;
    Workspace* workspace = nullptr;
    std::span<const int32_t> layers;
    size_t at = 0;
    std::vector<float> updates;  // [group, rows, width]
    WorkQueue::Task task;
  };
  struct Activations {  // on one back end
    Activations(Backend& backend, const ModelConfig& config, const Limits& most);
    Backend* backend;
    Buffer memory;
    BlockRows rows;
    Tensor hidden, logits;  // [logit rows, width], [logit rows, vocab]
    Tensor taps;            // [rows, taps * width]
    Tensor updates;         // [(group - 1) * rows, width]: attention of the layers of a group but
                            // the first, which has rows.update
    std::unique_ptr<Attending> attending;
    Tensor update(int32_t member, int32_t rows) const;  // of a group's layer
  };
  void reserve_host(const ModelConfig& config);
  std::vector<float> host_;      // what is computed on the host before it goes up, or crosses
  std::vector<Activations> on_;  // [back ends of the model]; logits and taps where the head is
  std::vector<int32_t> all_rows_;
  int32_t max_group_ = 1;
  int32_t max_rows_, max_logit_rows_, max_taps_;
};

// Logits of the rows a batch asked for, in the order of Batch::logit_row. Valid until the next
// forward.
struct Forward {
  Tensor logits;  // [logit rows, vocab], on the back end of the head
  Tensor hidden;  // [logit rows, width], after the final norm
  Tensor stream;  // [rows, width]: the residual stream after the last layer that was run, there
  Tensor taps;    // [rows, taps * width]: side by side in the order asked for; all rows
};

// A part of the model, for drafts that the target makes of itself (Kangaroo, S2D, SWIFT): some
// layers, with the final norm and the head after them. Layers that are left out keep the keys and
// values they had.
struct LayerRun {
  std::span<const int32_t> layers;  // ascending
  const Tensor* start =
      nullptr;  // [rows, width] instead of the tokens' embeddings, on the back end of the layer
                // before the first (of layer 0 when that is the first)
  std::span<const int32_t> taps = {};  // of layers that are run
  // Ascending; of each, the layers that are run have their attention side by side.
  std::span<const LayerGroup> groups = {};
};

// Which back end holds which part of a model. Keys and values lie with their layer; embeddings are
// looked up in the file. A row's bits depend on its back ends' arithmetic only, so a model over two
// CPU back ends writes what it writes on one.
struct ModelBackends {
  std::vector<std::shared_ptr<Backend>> layers;  // empty: all where the head is; fewer than the
                                                 // file has: the others are left out
  std::shared_ptr<Backend> head;                 // of the final norm and the head
  // Of the attention halves, with their keys and values; empty: where the layers are. The stream
  // goes there and the attention comes back.
  std::vector<std::shared_ptr<Backend>> attention = {};
  // Where a back end attends for another, meanwhile; empty or null: in turn.
  std::function<std::shared_ptr<WorkQueue>(const std::shared_ptr<Backend>&)> queue_of = {};
};

// A decoder-only transformer, immutable after load and shared by all sessions.
class Model {
 public:
  // progress: called with the fraction done, 0..1. Every name, shape and type is checked before the
  // first token.
  static std::shared_ptr<const Model> load(std::shared_ptr<const Checkpoint> checkpoint,
                                           ModelBackends backends,
                                           const std::function<void(double)>& progress = {});
  static std::shared_ptr<const Model> load(std::shared_ptr<const Checkpoint> checkpoint,
                                           std::shared_ptr<Backend> backend,
                                           const std::function<void(double)>& progress = {}) {
    return load(std::move(checkpoint), ModelBackends{{}, std::move(backend)}, progress);
  }

  const ModelConfig& config() const { return config_; }
  Backend& backend() const { return *backends_[head_at_]; }  // of the head
  Backend& backend_of(int32_t layer) const {
    return *backends_[layers_[static_cast<size_t>(layer)].at];
  }
  std::span<const std::shared_ptr<Backend>> backends() const { return backends_; }  // each once
  std::vector<KvPlace> kv_places(DType type = DType::kF16) const;
  KvLayout kv_layout(DType type = DType::kF16) const {
    return {config_.layers, config_.kv_heads, config_.head_dim, type};
  }
  std::span<const int32_t> all_layers() const { return all_layers_; }
  int64_t weights_bytes() const { return weights_bytes_; }  // read by a step of one row
  int64_t parameters() const { return parameters_; }

  // One pass over all rows of the batch; K and V land in the slots the batch names. Errors:
  // kBadArgument for a token outside the vocabulary, more rows or taps than the workspace holds.
  Forward forward(const Batch& batch, Workspace& workspace) const {
    return forward(batch, workspace, {all_layers_});
  }
  Forward forward_from(const Tensor& start, const Batch& batch, Workspace& workspace) const {
    return forward(batch, workspace, {all_layers_, &start});
  }
  Forward forward(const Batch& batch, Workspace& workspace, const LayerRun& run) const;

  // out: [width]. Error(kBadArgument) for a token outside the vocabulary.
  void embedding(int32_t token, std::span<float> out) const;

  const Linear& head() const { return head_; }  // [vocab, width] over the final hidden state
  // Some of its rows, or all where `tokens` is empty, packed for any back end.
  Linear head_rows(std::span<const int32_t> tokens, Backend& backend) const;

 private:
  struct Layer {
    Block block;
    size_t at = 0;          // index into backends_
    size_t attends_at = 0;  // ... of its attention, with keys and values
    int32_t kv_index = 0;   // among the layers that attend there
  };
  Model() = default;

  void check(const Batch& batch, const LayerRun& run, const Workspace& w) const;
  size_t start(const Batch& batch, const LayerRun& run, Workspace& w) const;
  void carry(size_t from, size_t to, const Tensor& x, const Tensor& out, Workspace& w) const;
  Forward layers_and_head(const Batch& batch, const LayerRun& run, size_t at, Workspace& w) const;
  size_t enter(size_t from, size_t to, int32_t rows, Workspace& w) const;
  size_t group_end(const LayerRun& run, size_t begin) const;
  void attend_side_by_side(const Batch& batch, std::span<const int32_t> layers, size_t at,
                           Workspace& w) const;
  void attend_at(size_t at, const Batch& batch, std::span<const int32_t> layers,
                 Workspace& w) const;
  void attend_beside(Workspace::Attending& attending) const;
  void tap(int32_t layer, size_t at, const LayerRun& run, int32_t rows, Workspace& w) const;

  friend class ModelLoader;
  friend class Workspace;
  ModelConfig config_;
  std::shared_ptr<const Checkpoint> checkpoint_;  // keeps the embedding rows mapped
  // In the order of the layers, those that attend first.
  std::vector<std::shared_ptr<Backend>> backends_;
  std::vector<std::shared_ptr<WorkQueue>> queues_;  // [back ends]: of those that attend for others
  std::vector<uint8_t> attends_for_others_;         // [back ends]
  size_t head_at_ = 0;                              // index into backends_
  std::vector<double> rope_frequencies_;
  const TensorSource* embedding_ = nullptr;
  const TensorSource* head_source_ = nullptr;
  std::vector<Layer> layers_;
  std::vector<int32_t> all_layers_;
  Buffer final_norm_;
  Linear head_;
  int64_t weights_bytes_ = 0, parameters_ = 0;
};

}  // namespace forerun
