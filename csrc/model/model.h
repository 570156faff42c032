#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "io/checkpoint.h"
#include "model/batch.h"
#include "model/block.h"
#include "model/config.h"

namespace forerun {

// A tap: hidden states that a forward hands out of all its rows, for heads that draft from them.
// l >= 0: the residual stream as layer l gets it, before any norm; kFinalTap: after the final norm.
inline constexpr int32_t kFinalTap = -1;

// Activations of a forward; one per thread of control that calls forward, reused over steps.
class Workspace {
 public:
  // max_taps: taps that a forward may ask for
  Workspace(Backend& backend, const ModelConfig& config, int32_t max_rows, int32_t max_logit_rows,
            int32_t max_taps = 0);
  int32_t max_rows() const { return max_rows_; }
  int32_t max_logit_rows() const { return max_logit_rows_; }
  int32_t max_taps() const { return max_taps_; }

 private:
  friend class Model;
  Buffer memory_;
  std::vector<float> host_;  // what is computed on the host before it goes up
  BlockRows rows_;
  Tensor hidden_, logits_;  // [logit rows, width], [logit rows, vocab]
  Tensor taps_;             // [rows, taps * width]
  std::vector<int32_t> all_rows_;
  int32_t max_rows_, max_logit_rows_, max_taps_;
};

// Logits of the rows a batch asked for, in the order of Batch::logit_row. Valid until the next
// forward.
struct Forward {
  Tensor logits;  // [logit rows, vocab], on the model's back end
  Tensor hidden;  // [logit rows, width], after the final norm
  Tensor stream;  // [rows, width]: the residual stream after the last layer that was run
  Tensor taps;    // [rows, taps * width]: side by side in the order asked for; all rows
};

// A part of the model, for drafts that the target makes of itself (drafting.md C.5, C.6, D.1): some
// layers, with the final norm and the head after them. Layers that are left out keep the keys and
// values they had.
struct LayerRun {
  std::span<const int32_t> layers;  // ascending
  const Tensor* start =
      nullptr;  // [rows, width] on the back end: instead of the tokens' embeddings
  std::span<const int32_t> taps = {};  // of layers that are run
};

// A decoder-only transformer, immutable after load and shared by all sessions.
class Model {
 public:
  // progress: called with the fraction done, 0..1. Every name, shape and type is checked before the
  // first token.
  static std::shared_ptr<const Model> load(std::shared_ptr<const Checkpoint> checkpoint,
                                           std::shared_ptr<Backend> backend,
                                           const std::function<void(double)>& progress = {});

  const ModelConfig& config() const { return config_; }
  Backend& backend() const { return *backend_; }
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

  const Linear& head() const { return head_; }  // [vocab, width] over the final hidden state
  // Some of its rows, or all where `tokens` is empty, packed for any back end.
  Linear head_rows(std::span<const int32_t> tokens, Backend& backend) const;

  // out: [width]. Error(kBadArgument) for a token outside the vocabulary.
  void embedding(int32_t token, std::span<float> out) const;

 private:
  Model() = default;

  void check(const Batch& batch, const LayerRun& run, const Workspace& w) const;
  void start(const Batch& batch, const LayerRun& run, Workspace& w) const;
  void tap(int32_t layer, const LayerRun& run, int32_t rows, Workspace& w) const;

  friend class ModelLoader;
  ModelConfig config_;
  std::shared_ptr<const Checkpoint> checkpoint_;  // keeps the embedding rows mapped
  std::shared_ptr<Backend> backend_;
  std::vector<double> rope_frequencies_;
  const TensorSource* embedding_ = nullptr;
  const TensorSource* head_source_ = nullptr;
  std::vector<Block> layers_;
  std::vector<int32_t> all_layers_;
  Buffer final_norm_;
  Linear head_;
  int64_t weights_bytes_ = 0, parameters_ = 0;
};

}  // namespace forerun
