#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/checkpoint.h"

namespace forerun {

// Rotary position embedding. kYarn: Peng et al., arXiv 2309.00071; kLlama3: the frequency-dependent
// factors of Llama 3.1 (a file may carry them as tensor rope_freqs.weight instead).
struct RopeConfig {
  enum class Scaling { kNone, kLinear, kLlama3, kYarn };
  float base = 10000.0F;
  int32_t rotary = 0;        // rotated values per head
  bool interleaved = false;  // pairs (2i, 2i + 1): GGUF files of the llama architecture
  Scaling scaling = Scaling::kNone;
  float factor = 1.0F;
  float low_freq_factor = 1.0F, high_freq_factor = 4.0F;  // llama3
  float beta_fast = 32.0F, beta_slow = 1.0F,
        attention_factor = 0.0F;  // scales what is rotated; 0: as rope_magnitude says
  int32_t original_context = 0;
  // [rotary / 2] of rope_freqs.weight, which come before the scaling; or empty.
  std::vector<float> frequency_divisors;
};

// Shape of a decoder-only transformer: RMSNorm, grouped-query attention with RoPE, SwiGLU.
struct ModelConfig {
  std::string architecture;  // "llama", "qwen2", "qwen3"
  int32_t layers = 0, width = 0, ffn_width = 0;
  int32_t heads = 0, kv_heads = 0, head_dim = 0;
  int32_t vocab = 0;            // rows of the output head
  int32_t trained_context = 0;  // 0 when the file does not say
  float norm_epsilon = 1e-5F;
  RopeConfig rope;
  bool tied_head = false;
  std::vector<int32_t> exits;  // layers after which it was trained to be left, ascending, or none
};

// Reads and checks the shape. Error(kUnsupported) naming an unknown architecture or feature
// (mixture of experts, unknown rope scaling), Error(kBadFile) naming a field that is missing or out
// of range.
FORERUN_API ModelConfig read_model_config(const Checkpoint& checkpoint);

// Radians per position of every rotated pair: [rotary / 2].
std::vector<double> rope_frequencies(const RopeConfig& rope);

// What rotated values are multiplied by: attention_factor; without one, YaRN's 0.1 ln(factor) + 1,
// else 1.
double rope_magnitude(const RopeConfig& rope);

// cos then sin of every rotated pair for each position: out [positions, rotary]. Angles are
// computed in double.
void rope_rows(const RopeConfig& rope, std::span<const double> frequencies,
               std::span<const int32_t> positions, float* out);

}  // namespace forerun
