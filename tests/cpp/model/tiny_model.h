#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "base/blocks.h"
#include "base/dtype.h"
#include "io/gguf_writer.h"
#include "io/temp_folder.h"

namespace forerun::test {

// A random model small enough for exhaustive tests, written as a GGUF file with a byte-level
// vocabulary.
struct TinyModel {
  std::string architecture = "llama";
  DType dtype = DType::kQ4_K;       // of the matrices
  DType head_dtype = DType::kQ6_K;  // of the output head
  int32_t layers = 2, width = 256, ffn = 256, heads = 4, kv_heads = 2, head_dim = 64;
  int32_t vocab = 260;
  int32_t context = 512;
  bool tied = false;
  uint32_t seed = 1;
  std::vector<int32_t> exits = {};  // that the file says it was trained for
  std::string rope_scaling = {};    // rope.scaling.type; empty: no such key
  std::vector<std::pair<std::string, float>> rope_numbers = {};  // further keys
  int32_t window = 0;
  int32_t unlisted = 0;  // rows of the embedding that the tokenizer does not list
};

// Numbers of the tensor types in the file format.
inline uint32_t gguf_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kBF16:
      return 30;
    case DType::kI8:
      return 24;
    case DType::kI32:
      return 26;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ5_0:
      return 6;
    case DType::kQ5_1:
      return 7;
    case DType::kQ8_0:
      return 8;
    case DType::kQ4_K:
      return 12;
    case DType::kQ5_K:
      return 13;
    case DType::kQ6_K:
      return 14;
  }
  return 0;
}

// Typed fields on top of the byte writer.
class ModelWriter {
 public:
  void text(const std::string& key, const std::string& value) {
    file_.pair(key, kString, raw_string(value));
  }
  void u32(const std::string& key, uint32_t value) { file_.pair(key, kU32, raw(value)); }
  void f32(const std::string& key, float value) { file_.pair(key, kF32, raw(value)); }
  void texts(const std::string& key, const std::vector<std::string>& values) {
    std::string items;
    for (const std::string& value : values) items += raw_string(value);
    file_.list(key, kString, values.size(), items);
  }
  void i32s(const std::string& key, const std::vector<int32_t>& values) {
    std::string items;
    for (const int32_t value : values) items += raw(value);
    file_.list(key, kI32, values.size(), items);
  }
  // shape outermost first
  void tensor(const std::string& name, DType dtype, const std::vector<int64_t>& shape,
              const std::vector<uint8_t>& bytes) {
    file_.tensor({name,
                  {shape.rbegin(), shape.rend()},
                  gguf_type(dtype),
                  std::string(bytes.begin(), bytes.end())});
  }
  void write(const std::string& path) const {
    const std::string bytes = file_.build();
    std::ofstream(path, std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

 private:
  GgufWriter file_;
};

// Random weights of about the given standard deviation and mean 0, as blocks of any type.
inline std::vector<uint8_t> random_weights(DType dtype, int64_t elements, float deviation,
                                           std::mt19937& random) {
  const DTypeInfo& info = dtype_info(dtype);
  std::vector<uint8_t> bytes(static_cast<size_t>(elements / info.block * info.block_bytes));
  const auto value = [&] {
    return deviation * 1.7F *
           (static_cast<float>(random() >> 8) / static_cast<float>(1 << 23) - 1.0F);
  };
  if (!is_quantized(dtype)) {
    for (int64_t i = 0; i < elements; ++i) {
      const float x = value();
      uint32_t bits;
      std::memcpy(&bits, &x, 4);
      const uint16_t half =
          dtype == DType::kF16 ? float_to_half(x) : static_cast<uint16_t>(bits >> 16);
      if (dtype == DType::kF32)
        std::memcpy(&bytes[static_cast<size_t>(i) * 4], &x, 4);
      else
        std::memcpy(&bytes[static_cast<size_t>(i) * 2], &half, 2);
    }
    return bytes;
  }
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  const auto set = [&](size_t at, float x) {
    const uint16_t half = float_to_half(x);
    std::memcpy(&bytes[at], &half, 2);
  };
  for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(info.block_bytes)) {
    switch (dtype) {
      case DType::kQ4_0:
        set(at, deviation / 4.6F);
        break;
      case DType::kQ4_1:
        set(at, deviation / 4.6F), set(at + 2, -7.5F * deviation / 4.6F);
        break;
      case DType::kQ5_0:
        set(at, deviation / 9.2F);
        break;
      case DType::kQ5_1:
        set(at, deviation / 9.2F), set(at + 2, -15.5F * deviation / 9.2F);
        break;
      case DType::kQ8_0:
        set(at, deviation / 74.0F);
        break;
      case DType::kQ4_K:
        set(at, deviation / 180.0F), set(at + 2, 7.5F * deviation / 180.0F);
        break;
      case DType::kQ5_K:
        set(at, deviation / 300.0F), set(at + 2, 15.5F * deviation / 300.0F);
        break;
      case DType::kQ6_K:
        set(at + 208, deviation / 1370.0F);
        break;
      default:
        break;
    }
  }
  return bytes;
}

// The printable stand-ins of the 256 bytes in a byte-level vocabulary (GPT-2), as UTF-8.
inline std::vector<std::string> byte_tokens() {
  std::vector<std::string> out(256);
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const int code = plain ? byte : next++;
    if (code < 0x80)
      out[static_cast<size_t>(byte)] = std::string(1, static_cast<char>(code));
    else
      out[static_cast<size_t>(byte)] = {static_cast<char>(0xC0 | code >> 6),
                                        static_cast<char>(0x80 | (code & 63))};
  }
  return out;
}

inline void write_vocabulary(ModelWriter& file, int32_t vocab) {
  std::vector<std::string> tokens = byte_tokens();
  std::vector<int32_t> types(256, 1);
  tokens.push_back("<|end|>"), types.push_back(3);
  while (static_cast<int32_t>(tokens.size()) < vocab) {
    tokens.push_back("<extra_" + std::to_string(tokens.size()) + ">"), types.push_back(4);
  }
  file.text("tokenizer.ggml.model", "gpt2");
  file.text("tokenizer.ggml.pre", "gpt-2");
  file.texts("tokenizer.ggml.tokens", tokens);
  file.i32s("tokenizer.ggml.token_type", types);
  file.texts("tokenizer.ggml.merges", {});
  file.u32("tokenizer.ggml.eos_token_id", 256);
}

inline void write_tiny_model(const TinyModel& m, const std::string& path) {
  ModelWriter file;
  const std::string a = m.architecture + ".";
  file.text("general.architecture", m.architecture);
  file.u32(a + "block_count", static_cast<uint32_t>(m.layers));
  file.u32(a + "embedding_length", static_cast<uint32_t>(m.width));
  file.u32(a + "feed_forward_length", static_cast<uint32_t>(m.ffn));
  file.u32(a + "attention.head_count", static_cast<uint32_t>(m.heads));
  file.u32(a + "attention.head_count_kv", static_cast<uint32_t>(m.kv_heads));
  file.u32(a + "attention.key_length", static_cast<uint32_t>(m.head_dim));
  file.u32(a + "attention.value_length", static_cast<uint32_t>(m.head_dim));
  file.u32(a + "rope.dimension_count", static_cast<uint32_t>(m.head_dim));
  if (m.context > 0) file.u32(a + "context_length", static_cast<uint32_t>(m.context));
  file.f32(a + "attention.layer_norm_rms_epsilon", 1e-5F);
  file.f32(a + "rope.freq_base", 10000.0F);
  if (!m.rope_scaling.empty()) file.text(a + "rope.scaling.type", m.rope_scaling);
  for (const auto& [key, value] : m.rope_numbers) file.f32(a + key, value);
  if (m.window > 0) file.u32(a + "attention.sliding_window", static_cast<uint32_t>(m.window));
  if (!m.exits.empty()) file.i32s("forerun.exits", m.exits);
  write_vocabulary(file, m.vocab - m.unlisted);

  std::mt19937 random(m.seed);
  const auto matrix = [&](const std::string& name, DType dtype, int64_t rows, int64_t cols,
                          float gain) {
    const float deviation = gain / std::sqrt(static_cast<float>(cols));
    file.tensor(name, dtype, {rows, cols}, random_weights(dtype, rows * cols, deviation, random));
  };
  const auto vector = [&](const std::string& name, int64_t size, float mean, float deviation) {
    std::vector<uint8_t> bytes = random_weights(DType::kF32, size, deviation, random);
    for (int64_t i = 0; i < size; ++i) {
      float x;
      std::memcpy(&x, &bytes[static_cast<size_t>(i) * 4], 4);
      x += mean;
      std::memcpy(&bytes[static_cast<size_t>(i) * 4], &x, 4);
    }
    file.tensor(name, DType::kF32, {size}, bytes);
  };
  const int64_t q = int64_t{m.heads} * m.head_dim, kv = int64_t{m.kv_heads} * m.head_dim;
  matrix("token_embd.weight", m.tied ? m.head_dtype : DType::kF32, m.vocab, m.width, 12.0F);
  for (int32_t i = 0; i < m.layers; ++i) {
    const std::string b = "blk." + std::to_string(i) + ".";
    vector(b + "attn_norm.weight", m.width, 1.0F, 0.1F);
    vector(b + "ffn_norm.weight", m.width, 1.0F, 0.1F);
    matrix(b + "attn_q.weight", m.dtype, q, m.width, 1.5F);
    matrix(b + "attn_k.weight", m.dtype, kv, m.width, 1.5F);
    matrix(b + "attn_v.weight", m.dtype, kv, m.width, 1.5F);
    matrix(b + "attn_output.weight", m.dtype, m.width, q, 1.5F);
    matrix(b + "ffn_gate.weight", m.dtype, m.ffn, m.width, 1.5F);
    matrix(b + "ffn_up.weight", m.dtype, m.ffn, m.width, 1.5F);
    matrix(b + "ffn_down.weight", m.dtype, m.width, m.ffn, 1.5F);
    if (m.architecture == "qwen2") {
      vector(b + "attn_q.bias", q, 0.0F, 0.3F);
      vector(b + "attn_k.bias", kv, 0.0F, 0.3F);
      vector(b + "attn_v.bias", kv, 0.0F, 0.3F);
    }
    if (m.architecture == "qwen3") {
      vector(b + "attn_q_norm.weight", m.head_dim, 1.0F, 0.1F);
      vector(b + "attn_k_norm.weight", m.head_dim, 1.0F, 0.1F);
    }
  }
  random.seed(m.seed + 1000);  // the same whatever the number of layers
  vector("output_norm.weight", m.width, 1.0F, 0.1F);
  if (!m.tied) matrix("output.weight", m.head_dtype, m.vocab, m.width, 2.0F);
  file.write(path);
}

// A file that disappears with the object.
class TinyModelFile {
 public:
  explicit TinyModelFile(const TinyModel& model) { write_tiny_model(model, path_); }
  const std::string& path() const { return path_; }

 private:
  TempFolder folder_;
  std::string path_ = folder_.path() + "/model.gguf";
};

}  // namespace forerun::test
