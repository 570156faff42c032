#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "io/file_error.h"
#include "model/fields.h"

namespace forerun {
namespace {

[[noreturn]] void unsupported(const Checkpoint& file, const std::string& what) {
  throw Error(ErrorKind::kUnsupported, file.path() + ": " + what);
}

void set_scaling(const Checkpoint& file, const std::string& name, RopeConfig& rope) {
  if (name.empty() || name == "none" || name == "default") {
    rope.scaling = RopeConfig::Scaling::kNone;
  } else if (name == "linear") {
    rope.scaling = RopeConfig::Scaling::kLinear;
  } else if (name == "llama3") {
    rope.scaling = RopeConfig::Scaling::kLlama3;
  } else if (name == "yarn") {
    rope.scaling = RopeConfig::Scaling::kYarn;
  } else {
    unsupported(
        file, "unsupported rope scaling " + in_quotes(name) + " (supported: linear, llama3, yarn)");
  }
}

// Within its window a model sees everything, as it does without one.
void keep_to_window(int32_t window, ModelConfig& c) {
  if (window <= 0) return;
  c.trained_context = c.trained_context > 0 ? std::min(c.trained_context, window) : window;
}

// As llama.cpp reads these keys: a factor alone is linear, older files call it scale_linear, and
// attn_factor comes on top of YaRN's own.
void read_gguf_rope(const Checkpoint& file, const Fields& f, RopeConfig& rope) {
  const float older = f.number("rope.scale_linear", 0.0, 1e6, 0.0);
  const bool scaled = f.has("rope.scaling.factor") || older > 0.0F;
  set_scaling(file, f.text("rope.scaling.type", scaled ? "linear" : ""), rope);
  rope.factor = f.number("rope.scaling.factor", 0.0, 1e6, older);
  if (rope.factor == 0.0F) rope.factor = 1.0F;
  if (rope.factor < 1e-3F) f.fail("rope.scaling.factor", "is too small, expected 0.001 or more");
  if (f.has("rope.scaling.attn_factor")) {
    const double own = rope_magnitude(rope);
    rope.attention_factor =
        static_cast<float>(own * f.number("rope.scaling.attn_factor", 0.0, 1e3, 1.0));
  }
}

ModelConfig read_gguf(const Checkpoint& file) {
  ModelConfig c;
  c.architecture = file.text("general.architecture");
  if (c.architecture == "forerun-draft") {
    throw Error(
        ErrorKind::kBadFile,
        file.path() + ": a draft for another model, not a model; use it as draft='head:PATH'");
  }
  if (c.architecture != "llama" && c.architecture != "qwen2" && c.architecture != "qwen3") {
    unsupported(file, "unsupported architecture " + in_quotes(c.architecture) +
                          " (supported: llama, qwen2, qwen3)");
  }
  const Fields f(file, c.architecture + ".");
  if (f.count("expert_count", 0, 1 << 16, 0) > 0) unsupported(file, "mixture of experts");
  c.layers = f.count("block_count", 1, kMaxLayers);
  c.width = f.count("embedding_length", 1, kMaxWidth);
  c.ffn_width = f.count("feed_forward_length", 1, kMaxWidth);
  c.heads = f.count("attention.head_count", 1, kMaxWidth);
  c.kv_heads = f.count("attention.head_count_kv", 1, kMaxWidth, c.heads);
  c.head_dim = f.count("attention.key_length", 1, kMaxWidth, c.width / c.heads);
  if (f.count("attention.value_length", 1, kMaxWidth, c.head_dim) != c.head_dim) {
    unsupported(file, "keys and values of different width");
  }
  c.trained_context = f.count("context_length", 0, std::numeric_limits<int32_t>::max(), 0);
  keep_to_window(f.count("attention.sliding_window", 0, kMaxWidth * 16, 0), c);
  c.norm_epsilon = f.number("attention.layer_norm_rms_epsilon", 0.0, 1.0, 1e-5);
  c.rope.base = f.number("rope.freq_base", 1.0, 1e12, 10000.0);
  c.rope.rotary = f.count("rope.dimension_count", 2, kMaxWidth, c.head_dim);
  c.rope.interleaved = c.architecture == "llama";
  read_gguf_rope(file, f, c.rope);
  c.rope.beta_fast = f.number("rope.scaling.yarn_beta_fast", 0.0, 1e6, 32.0);
  c.rope.beta_slow = f.number("rope.scaling.yarn_beta_slow", 0.0, 1e6, 1.0);
  c.rope.original_context = f.count("rope.scaling.original_context_length", 0,
                                    std::numeric_limits<int32_t>::max(), c.trained_context);
  c.tied_head = file.find_tensor("output.weight") == nullptr;
  return c;
}

void read_hf_rope(const Checkpoint& file, const Fields& top, RopeConfig& rope) {
  // transformers 5 writes rope_parameters, earlier releases rope_theta and rope_scaling.
  const Fields f(file,
                 file.find("rope_parameters.rope_theta") ? "rope_parameters." : "rope_scaling.");
  rope.base = f.number("rope_theta", 1.0, 1e12, top.number("rope_theta", 1.0, 1e12, 10000.0));
  set_scaling(file, f.text("rope_type", f.text("type", "")), rope);
  rope.factor = f.number("factor", 1e-3, 1e6, 1.0);
  rope.low_freq_factor = f.number("low_freq_factor", 1e-3, 1e6, 1.0);
  rope.high_freq_factor = f.number("high_freq_factor", 1e-3, 1e6, 4.0);
  rope.beta_fast = f.number("beta_fast", 0.0, 1e6, 32.0);
  rope.beta_slow = f.number("beta_slow", 0.0, 1e6, 1.0);
  if (rope.scaling == RopeConfig::Scaling::kYarn) {
    rope.attention_factor = f.number("attention_factor", 0.0, 1e3, 0.0);
  }
  rope.original_context =
      f.count("original_max_position_embeddings", 0, std::numeric_limits<int32_t>::max(),
              top.count("max_position_embeddings", 0, std::numeric_limits<int32_t>::max(), 0));
}

ModelConfig read_hf(const Checkpoint& file) {
  ModelConfig c;
  const std::string type = file.text("model_type");
  if (type == "llama" || type == "mistral") {
    c.architecture = "llama";
  } else if (type == "qwen2" || type == "qwen3") {
    c.architecture = type;
  } else {
    unsupported(file, "unsupported architecture " + in_quotes(type) +
                          " (supported: llama, mistral, qwen2, qwen3)");
  }
  const Fields f(file, "");
  c.layers = f.count("num_hidden_layers", 1, kMaxLayers);
  c.width = f.count("hidden_size", 1, kMaxWidth);
  c.ffn_width = f.count("intermediate_size", 1, kMaxWidth);
  c.heads = f.count("num_attention_heads", 1, kMaxWidth);
  c.kv_heads = f.count("num_key_value_heads", 1, kMaxWidth, c.heads);
  c.head_dim = f.count("head_dim", 1, kMaxWidth, c.width / c.heads);
  c.trained_context = f.count("max_position_embeddings", 0, std::numeric_limits<int32_t>::max(), 0);
  const bool windowed = type == "mistral" || f.flag("use_sliding_window", false);
  const int32_t window = f.count("sliding_window", 0, kMaxWidth * 16, 0);
  if (windowed) keep_to_window(window, c);
  if (const std::string act = f.text("hidden_act", "silu"); act != "silu") {
    unsupported(file, "unsupported hidden_act " + in_quotes(act) + " (supported: silu)");
  }
  c.norm_epsilon = f.number("rms_norm_eps", 0.0, 1.0, 1e-5);
  c.rope.rotary = c.head_dim;
  read_hf_rope(file, f, c.rope);
  c.tied_head =
      f.flag("tie_word_embeddings", false) || file.find_tensor("lm_head.weight") == nullptr;
  return c;
}

void read_exits(const Checkpoint& file, ModelConfig& c) {
  const Fields f(file, "forerun.");
  for (const int64_t exit : f.integers("exits")) {
    const int32_t before = c.exits.empty() ? 0 : c.exits.back();
    if (exit <= before || exit > c.layers) {
      f.fail("exits", "holds " + std::to_string(exit) + ", expected layers from 1 to " +
                          std::to_string(c.layers) + " that rise");
    }
    c.exits.push_back(static_cast<int32_t>(exit));
  }
}

}  // namespace

ModelConfig read_model_config(const Checkpoint& checkpoint) {
  ModelConfig c =
      checkpoint.format() == CheckpointFormat::kGguf ? read_gguf(checkpoint) : read_hf(checkpoint);
  const Fields f(checkpoint, "");
  if (c.heads % c.kv_heads != 0) {
    f.fail("head counts", std::to_string(c.heads) + " and " + std::to_string(c.kv_heads) +
                              ": query heads must be a multiple of key heads");
  }
  if (c.head_dim % 2 != 0 || c.rope.rotary % 2 != 0 || c.rope.rotary > c.head_dim) {
    f.fail("head width", std::to_string(c.head_dim) + " with " + std::to_string(c.rope.rotary) +
                             " rotated values: both must be even, the second not larger");
  }
  if (checkpoint.find("forerun.exits") != nullptr) read_exits(checkpoint, c);
  // Products of shapes stay far below int32 in every kernel.
  if (int64_t{c.heads} * c.head_dim > kMaxWidth) f.fail("head count x width", "is out of range");
  return c;
}

}  // namespace forerun
