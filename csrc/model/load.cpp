#include <algorithm>
#include <numeric>
#include <string>

#include "base/blocks.h"
#include "base/error.h"
#include "model/model.h"
#include "model/weights.h"

namespace forerun {

// Binds the tensors of a checkpoint to the layers of a model: checks every shape, then packs.
class ModelLoader {
 public:
  ModelLoader(std::shared_ptr<const Checkpoint> checkpoint, const ModelBackends& backends,
              const std::function<void(double)>& progress)
      : model_(new Model), source_(*checkpoint), progress_(progress) {
    model_->config_ = read_model_config(*checkpoint);
    model_->checkpoint_ = std::move(checkpoint);
    place(backends);
  }

  std::shared_ptr<const Model> load() {
    bind_embedding();
    check_layers();
    const ModelConfig& c = model_->config_;
    for (const TensorSource& tensor : model_->checkpoint_->tensors()) {
      total_bytes_ += static_cast<int64_t>(tensor.bytes.size());
    }
    // the largest matrix first: while it is packed, its pages of the file are in memory too
    at_ = model_->head_at_;
    model_->head_ = linear(c.tied_head ? "token_embd" : "output", c.vocab, c.width);
    model_->final_norm_ = vector("output_norm.weight", c.width);
    for (int32_t i = 0; i < c.layers; ++i) bind_layer(model_->layers_[static_cast<size_t>(i)], i);
    if (progress_) progress_(1.0);
    return std::shared_ptr<const Model>(std::move(model_));
  }

 private:
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
    std::vector<int32_t> held(model_->layers_.size());
    for (size_t i = 0; i < model_->layers_.size(); ++i) {
      Model::Layer& layer = model_->layers_[i];
      layer.at = index_of(given > 0 ? backends.layers[i] : backends.head);
      layer.kv_index = held[layer.at]++;
    }
    model_->head_at_ = index_of(backends.head);
  }

  void bind_embedding() {
    ModelConfig& c = model_->config_;
    const std::string name = source_.name("token_embd.weight");
    const TensorSource& tensor = model_->checkpoint_->tensor(name);
    if (tensor.shape.size() != 2 || tensor.shape[1] != c.width || tensor.shape[0] < 1 ||
        tensor.shape[0] > (1 << 24)) {
      throw Error(ErrorKind::kBadFile, model_->checkpoint_->path() + ": tensor '" + name +
                                           "' is not a matrix of token rows, " +
                                           std::to_string(c.width) + " values each");
    }
    c.vocab = static_cast<int32_t>(tensor.shape[0]);
    model_->embedding_ = &tensor;
    model_->parameters_ += tensor.shape[0] * tensor.shape[1];
    if (const TensorSource* divisors = source_.find("rope_freqs.weight")) {
      source_.vector("rope_freqs.weight", c.rope.rotary / 2);
      c.rope.frequency_divisors.resize(static_cast<size_t>(c.rope.rotary / 2));
      dequantize(divisors->dtype, divisors->bytes.data(), c.rope.rotary / 2,
                 c.rope.frequency_divisors.data());
    }
    model_->rope_frequencies_ = rope_frequencies(c.rope);
  }

  // A bad shape in the last layer must not be found after minutes of packing.
  void check_layers() const {
    const ModelConfig& c = model_->config_;
    for (int32_t i = 0; i < c.layers; ++i) {
      for_each_linear(i, [&](const std::string& role, int64_t rows, int64_t cols) {
        source_.matrix(role + ".weight", rows, cols);
      });
    }
    if (!c.tied_head) source_.matrix("output.weight", c.vocab, c.width);
    source_.vector("output_norm.weight", c.width);
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

  void bind_layer(Model::Layer& layer, int32_t index) {
    const ModelConfig& c = model_->config_;
    const std::string block = "blk." + std::to_string(index) + ".";
    at_ = layer.at;
    layer.attention_norm = vector(block + "attn_norm.weight", c.width);
    layer.ffn_norm = vector(block + "ffn_norm.weight", c.width);
    if (c.architecture == "qwen3") {
      layer.q_norm = vector(block + "attn_q_norm.weight", c.head_dim);
      layer.k_norm = vector(block + "attn_k_norm.weight", c.head_dim);
    }
    Model::Linear* const order[] = {&layer.q,    &layer.k,  &layer.v,   &layer.output,
                                    &layer.gate, &layer.up, &layer.down};
    size_t next = 0;
    for_each_linear(index, [&](const std::string& role, int64_t rows, int64_t cols) {
      *order[next++] = linear(role, rows, cols);
    });
  }

  Model::Linear linear(const std::string& role, int64_t rows, int64_t cols) {
    const TensorSource& tensor = source_.matrix(role + ".weight", rows, cols);
    Model::Linear out;
    try {
      out.weight = backend().pack({tensor.dtype, rows, cols, tensor.bytes.data()});
    } catch (const Error& error) {
      throw Error(error.kind(),
                  model_->checkpoint_->path() + ": tensor '" + tensor.name + "': " + error.what());
    }
    if (source_.find(role + ".bias") != nullptr) out.bias = vector(role + ".bias", rows);
    model_->weights_bytes_ += out.weight->bytes;
    if (role != "token_embd") model_->parameters_ += rows * cols;
    report(tensor);
    return out;
  }

  Buffer vector(const std::string& role, int64_t size) {
    const TensorSource& tensor = source_.vector(role, size);
    std::vector<float> values(static_cast<size_t>(size));
    dequantize(tensor.dtype, tensor.bytes.data(), size, values.data());
    Buffer buffer = backend().allocate(size * 4);
    backend().upload(buffer.data(), values.data(), size * 4);
    model_->weights_bytes_ += size * 4;
    model_->parameters_ += size;
    report(tensor);
    return buffer;
  }

  void report(const TensorSource& tensor) {
    done_bytes_ += static_cast<int64_t>(tensor.bytes.size());
    model_->checkpoint_->drop(tensor);  // or the model would be in memory twice
    if (progress_) progress_(static_cast<double>(done_bytes_) / static_cast<double>(total_bytes_));
  }

  Backend& backend() { return *model_->backends_[at_]; }

  std::unique_ptr<Model> model_;
  size_t at_ = 0;  // where what is loaded goes
  WeightSource source_;
  const std::function<void(double)>& progress_;
  int64_t total_bytes_ = 0, done_bytes_ = 0;
};

std::shared_ptr<const Model> Model::load(std::shared_ptr<const Checkpoint> checkpoint,
                                         ModelBackends backends,
                                         const std::function<void(double)>& progress) {
  return ModelLoader(std::move(checkpoint), backends, progress).load();
}

}  // namespace forerun
