#pragma once

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "model/tiny_model.h"

namespace forerun::test {

// A random draft head for a TinyModel, written as a draft file.
struct TinyHead {
  std::string family = "dgf";
  TinyModel target = {};
  DType dtype = DType::kF32;  // of the matrices
  int32_t blocks = 1, width = 256, ffn = 256, heads = 4, kv_heads = 2, head_dim = 32;
  std::vector<int32_t> taps = {-1};
  int32_t columns = 0;  // tokens that it may propose; 0: all, and none listed
  bool own_head = false;
  uint32_t seed = 1;
  int32_t stacks = 0;  // of medusa and hydra
  int32_t span = 0;    // of falcon
};

inline void write_tiny_head(const TinyHead& h, const std::string& path) {
  ModelWriter file;
  const auto u32 = [&file](const std::string& key, int32_t value) {
    file.u32("forerun.draft." + key, static_cast<uint32_t>(value));
  };
  file.text("general.architecture", "forerun-draft");
  file.text("forerun.draft.family", h.family);
  u32("format", 1), u32("blocks", h.blocks), u32("width", h.width), u32("ffn_width", h.ffn);
  u32("heads", h.heads), u32("kv_heads", h.kv_heads), u32("head_dim", h.head_dim);
  u32("target.width", h.target.width), u32("target.layers", h.target.layers);
  u32("target.vocab", h.target.vocab);
  if (h.span > 0) u32("span", h.span);
  file.f32("forerun.draft.norm_epsilon", 1e-5F);
  file.f32("forerun.draft.rope_base", 10000.0F);
  file.i32s("forerun.draft.taps", h.taps);

  std::mt19937 random(h.seed);
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t cols) {
    const float deviation = 1.5F / std::sqrt(static_cast<float>(cols));
    file.tensor(name + ".weight", h.dtype, {rows, cols},
                random_weights(h.dtype, rows * cols, deviation, random));
  };
  const auto norm = [&](const std::string& name, int64_t size) {
    std::vector<float> values(static_cast<size_t>(size));
    for (float& value : values) value = 0.8F + static_cast<float>(random() % 100) * 0.004F;
    std::vector<uint8_t> bytes(values.size() * 4);
    std::memcpy(bytes.data(), values.data(), bytes.size());
    file.tensor(name + ".weight", DType::kF32, {size}, bytes);
  };
  const int64_t d = h.width, dt = h.target.width, taps = static_cast<int64_t>(h.taps.size());
  const bool third = h.family == "eagle3";
  const bool stacked = h.stacks > 0, kangaroo = h.family == "kangaroo";
  const bool chimera = h.family == "chimera";
  for (int32_t k = 0; k < h.stacks; ++k) {
    const std::string s = h.family + "." + std::to_string(k) + ".";
    if (h.family == "hydra") matrix(s + "skip", d, (k + 2) * d), matrix(s + "in", d, (k + 2) * d);
    matrix(s + "block.0", d, d);
  }
  if (stacked && h.blocks > 0) norm("norm", d);
  if (h.family == "dgf") {
    norm("token_norm", dt);
    matrix("dgf.w1", d, dt), matrix("dgf.w2", d, dt), matrix("dgf.gate", d, 2 * d);
  } else if (kangaroo) {
    norm("norm", d);
  } else if (h.span > 0) {
    matrix("lstm.0.in", 4 * d, dt + d), matrix("lstm.0.hidden", 4 * d, d);
    matrix("lstm.1.in", 4 * d, d), matrix("lstm.1.hidden", 4 * d, d);
  } else if (chimera) {
    matrix("trigram.block", 3 * dt, 3 * dt), matrix("trigram.out", d, 3 * dt);
  } else if (!stacked) {
    matrix("fc", d, third ? taps * dt : dt + d);
  }
  if (third) norm("block.0.token_norm", dt), norm("block.0.hidden_norm", d), norm("norm", d);
  const int64_t q = int64_t{h.heads} * h.head_dim, kv = int64_t{h.kv_heads} * h.head_dim;
  for (int32_t i = 0; i < h.blocks; ++i) {
    const std::string b = "block." + std::to_string(i) + ".";
    const int64_t in = third && i == 0 ? d + dt : d;
    if (i > 0 || stacked || kangaroo || chimera) norm(b + "attn_norm", d);
    matrix(b + "q", q, in), matrix(b + "k", kv, in), matrix(b + "v", kv, in);
    matrix(b + "o", d, q);
    if (h.ffn == 0) continue;
    norm(b + "ffn_norm", d);
    matrix(b + "gate", h.ffn, d), matrix(b + "up", h.ffn, d), matrix(b + "down", d, h.ffn);
  }
  if (h.columns > 0) {
    std::vector<int32_t> tokens(static_cast<size_t>(h.target.vocab));
    std::iota(tokens.begin(), tokens.end(), 0);
    std::shuffle(tokens.begin(), tokens.end(), random);
    tokens.resize(static_cast<size_t>(h.columns));
    std::sort(tokens.begin(), tokens.end());
    std::vector<uint8_t> bytes(tokens.size() * 4);
    std::memcpy(bytes.data(), tokens.data(), bytes.size());
    file.tensor("draft_tokens", DType::kI32, {h.columns}, bytes);
  }
  const int64_t head_inputs = chimera ? 2 * d : d;
  if (h.own_head) matrix("head", h.columns > 0 ? h.columns : h.target.vocab, head_inputs);
  file.write(path);
}

// A file that disappears with the object.
class TinyHeadFile {
 public:
  explicit TinyHeadFile(const TinyHead& head) { write_tiny_head(head, path_); }
  const std::string& path() const { return path_; }

 private:
  TempFolder folder_;
  std::string path_ = folder_.path() + "/head.gguf";
};

}  // namespace forerun::test
