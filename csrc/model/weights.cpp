#include "model/weights.h"

#include <array>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace forerun {
namespace {

// GGUF's part of a block tensor's name, and what Hugging Face's llama, mistral, qwen2 and qwen3
// call it.
constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kBlockNames{{
    {"attn_norm", "input_layernorm"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
}};

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace

std::string WeightSource::name(const std::string& role) const {
  if (checkpoint_.format() == CheckpointFormat::kGguf) return role;
  if (role == "token_embd.weight") return "model.embed_tokens.weight";
  if (role == "output_norm.weight") return "model.norm.weight";
  if (role == "output.weight") return "lm_head.weight";
  // "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"
  const size_t part = role.find('.', 4);
  const size_t suffix = role.rfind('.');
  if (!role.starts_with("blk.") || part == std::string::npos || suffix <= part) return role;
  const std::string_view block = std::string_view(role).substr(part + 1, suffix - part - 1);
  for (const auto& [gguf, hf] : kBlockNames) {
    if (gguf == block) {
      return "model.layers." + role.substr(4, part - 4) + "." + std::string(hf) +
             role.substr(suffix);
    }
  }
  return role;
}

const TensorSource* WeightSource::find(const std::string& role) const {
  return checkpoint_.find_tensor(name(role));
}

const TensorSource& WeightSource::matrix(const std::string& role, int64_t rows,
                                         int64_t cols) const {
  return shaped(role, {rows, cols});
}

const TensorSource& WeightSource::vector(const std::string& role, int64_t size) const {
  return shaped(role, {size});
}

const TensorSource& WeightSource::shaped(const std::string& role,
                                         const std::vector<int64_t>& shape) const {
  const TensorSource& tensor = checkpoint_.tensor(name(role));
  if (tensor.shape != shape) {
    throw Error(ErrorKind::kBadFile, checkpoint_.path() + ": tensor '" + tensor.name +
                                         "' has shape " + shape_text(tensor.shape) + ", expected " +
                                         shape_text(shape));
  }
  return tensor;
}

}  // namespace forerun
