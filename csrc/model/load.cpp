#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "base/blocks.h"
#include "base/error.h"
#include "model/model.h"
#include "model/weight_binder.h"

namespace forerun {

// Binds the tensors of a checkpoint to the layers of a model: checks every shape, then packs.
class ModelLoader {
 public:
  ModelLoader(std::shared_ptr<const Checkpoint> checkpoint, const ModelBackends& backends,
              const std::function<void(double)>& progress)
      : model_(new Model), bind_(*checkpoint, progress), progress_(progress) {
    model_->config_ = read_model_config(*checkpoint);
    model_->checkpoint_ = std::move(checkpoint);
    place(backends);
  }

  std::shared_ptr<const Model> load() {
    bind_embedding();
    check_layers();
    const ModelConfig& c = model_->config_;
    // the largest matrix first: while it is packed, its pages of the file are in memory too
    bind_.go_to(model_->backend());
    model_->head_ = bind_.linear(head_role(), c.vocab, c.width);
    model_->final_norm_ = bind_.vector("output_norm.weight", c.width);
    for (int32_t i = 0; i < c.layers; ++i) bind_layer(model_->layers_[static_cast<size_t>(i)], i);
    model_->weights_bytes_ = bind_.bytes();
    const int64_t embedding = c.tied_head ? 0 : int64_t{c.vocab} * c.width;
    model_->parameters_ = bind_.parameters() + embedding;
    if (progress_) progress_(1.0);
    return std::shared_ptr<const Model>(std::move(model_));
  }

 private:
  const WeightSource& source() const { return bind_.source(); }
  std::string head_role() const { return model_->config_.tied_head ? "token_embd" : "output"; }

  // Lists every back end once, in the order of the layers, and says which layer lies where.
  void place(const ModelBackends& backends) {
    ModelConfig& c = model_->config_;
    const auto given = static_cast<int32_t>(backends.layers.size());
    if (given > c.layers) {
      throw Error(ErrorKind::kBadArgument, model_->checkpoint_->path() + ": " +
                                               std::to_string(c.layers) +
                                               " layers, back ends for " + std::to_string(given));
    }
    if (given > 0) c.layers = given;
    const auto index_of = [this](const std::shared_ptr<Backend>& backend) {
      auto& all = model_->backends_;
      const auto found = std::find(all.begin(), all.end(), backend);
      if (found != all.end()) return static_cast<size_t>(found - all.begin());
      all.push_back(backend);
      return all.size() - 1;
    };
    model_->layers_.resize(static_cast<size_t>(c.layers));
    model_->all_layers_.resize(model_->layers_.size());
    std::iota(model_->all_layers_.begin(), model_->all_layers_.end(), 0);
    const bool elsewhere = !backends.attention.empty();
    if (elsewhere && static_cast<int32_t>(backends.attention.size()) != c.layers) {
      throw Error(ErrorKind::kBadArgument, model_->checkpoint_->path() + ": " +
                                               std::to_string(c.layers) +
                                               " layers, back ends for the attention of " +
                                               std::to_string(backends.attention.size()));
    }
    const auto home_of = [&](size_t i) { return given > 0 ? backends.layers[i] : backends.head; };
    std::vector<int32_t> held(model_->layers_.size());
    for (size_t i = 0; i < model_->layers_.size(); ++i) {
      Model::Layer& layer = model_->layers_[i];
      layer.attends_at = index_of(elsewhere ? backends.attention[i] : home_of(i));
      layer.kv_index = held[layer.attends_at]++;
    }
    for (size_t i = 0; i < model_->layers_.size(); ++i) {
      model_->layers_[i].at = index_of(home_of(i));
    }
    model_->head_at_ = index_of(backends.head);
    give_queues(backends);
  }

  void give_queues(const ModelBackends& backends) {
    const size_t count = model_->backends_.size();
    model_->attends_for_others_.assign(count, 0);
    model_->queues_.resize(count);
    for (const Model::Layer& layer : model_->layers_) {
      if (layer.attends_at == layer.at || model_->attends_for_others_[layer.attends_at]) continue;
      model_->attends_for_others_[layer.attends_at] = 1;
      if (!backends.queue_of) continue;
      model_->queues_[layer.attends_at] = backends.queue_of(model_->backends_[layer.attends_at]);
    }
  }

  void bind_embedding() {
    ModelConfig& c = model_->config_;
    const std::string name = source().name("token_embd.weight");
    const TensorSource& tensor = model_->checkpoint_->tensor(name);
    if (tensor.shape.size() != 2 || tensor.shape[1] != c.width || tensor.shape[0] < 1 ||
        tensor.shape[0] > (1 << 24)) {
      throw Error(ErrorKind::kBadFile, model_->checkpoint_->path() + ": tensor '" + name +
                                           "' is not a matrix of token rows, " +
                                           std::to_string(c.width) + " values each");
    }
    c.vocab = static_cast<int32_t>(tensor.shape[0]);
    model_->embedding_ = &tensor;
    if (const TensorSource* divisors = source().find("rope_freqs.weight")) {
      source().vector("rope_freqs.weight", c.rope.rotary / 2);
      c.rope.frequency_divisors.resize(static_cast<size_t>(c.rope.rotary / 2));
      dequantize(divisors->dtype, divisors->bytes.data(), c.rope.rotary / 2,
                 c.rope.frequency_divisors.data());
    }
    model_->rope_frequencies_ = rope_frequencies(c.rope);
  }

  // A bad shape in the last layer must not be found after minutes of packing.
  void check_layers() {
    const ModelConfig& c = model_->config_;
    for (int32_t i = 0; i < c.layers; ++i) {
      for_each_linear(i, [&](const std::string& role, int64_t rows, int64_t cols) {
        source().matrix(role + ".weight", rows, cols);
      });
    }
    model_->head_source_ = &source().matrix(head_role() + ".weight", c.vocab, c.width);
    source().vector("output_norm.weight", c.width);
  }

  template <typename Visit>
  void for_each_linear(int32_t layer, Visit&& visit) const {
    const ModelConfig& c = model_->config_;
    const std::string block = "blk." + std::to_string(layer) + ".";
    const int64_t q = int64_t{c.heads} * c.head_dim, kv = int64_t{c.kv_heads} * c.head_dim;
    visit(block + "attn_q", q, c.width);
    visit(block + "attn_k", kv, c.width);
    visit(block + "attn_v", kv, c.width);
    visit(block + "attn_output", c.width, q);
    visit(block + "ffn_gate", c.ffn_width, c.width);
    visit(block + "ffn_up", c.ffn_width, c.width);
    visit(block + "ffn_down", c.width, c.ffn_width);
  }

  void bind_layer(Model::Layer& place, int32_t index) {
    const ModelConfig& c = model_->config_;
    Block& layer = place.block;
    Backend& attends = *model_->backends_[place.attends_at];
    Backend& own = *model_->backends_[place.at];
    const std::string block = "blk." + std::to_string(index) + ".";
    bind_.go_to(own);
    layer.ffn_norm = bind_.vector(block + "ffn_norm.weight", c.width);
    bind_.go_to(attends);
    layer.attention_norm = bind_.vector(block + "attn_norm.weight", c.width);
    if (c.architecture == "qwen3") {
      layer.q_norm = bind_.vector(block + "attn_q_norm.weight", c.head_dim);
      layer.k_norm = bind_.vector(block + "attn_k_norm.weight", c.head_dim);
    }
    Linear* const order[] = {&layer.q,    &layer.k,  &layer.v,   &layer.output,
                             &layer.gate, &layer.up, &layer.down};
    size_t next = 0;
    for_each_linear(index, [&](const std::string& role, int64_t rows, int64_t cols) {
      if (order[next] == &layer.gate) bind_.go_to(own);
      *order[next++] = bind_.linear(role, rows, cols);
    });
  }

  std::unique_ptr<Model> model_;
  WeightBinder bind_;
  const std::function<void(double)>& progress_;
};

// Rows are taken over in the file's own blocks, so that nothing is rounded twice.
Linear Model::head_rows(std::span<const int32_t> tokens, Backend& backend) const {
  const TensorSource& source = *head_source_;
  const auto row_bytes = static_cast<size_t>(dtype_bytes(source.dtype, config_.width));
  std::vector<std::byte> gathered(tokens.size() * row_bytes);
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::copy_n(source.bytes.data() + static_cast<size_t>(tokens[i]) * row_bytes, row_bytes,
                gathered.data() + i * row_bytes);
  }
  const int64_t rows = tokens.empty() ? config_.vocab : static_cast<int64_t>(tokens.size());
  const std::byte* data = tokens.empty() ? source.bytes.data() : gathered.data();
  Linear out;
  out.weight =
      pack_tensor(*checkpoint_, backend, source.name, {source.dtype, rows, config_.width, data});
  checkpoint_->drop(source);
  return out;
}

std::shared_ptr<const Model> Model::load(std::shared_ptr<const Checkpoint> checkpoint,
                                         ModelBackends backends,
                                         const std::function<void(double)>& progress) {
  return ModelLoader(std::move(checkpoint), backends, progress).load();
}

}  // namespace forerun
