#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/matmul_table.h"
#include "backend/cpu/packed.h"
#include "backend/vocabulary.h"

namespace forerun {

// score[query][slot] = one fma chain over head_dim, for the 64 slots of a key block; of Q8_0 keys
// one exact integer per 32 values, then one fma chain over those.
struct ScoreArgs {
  const float* query = nullptr;         // [queries][head_dim]
  const Activation32* codes = nullptr;  // [queries][head_dim / 32], for Q8_0 keys
  const void* keys = nullptr;           // a K block of KvLayout
  const void* next = nullptr;           // as many bytes as `keys` to be read soon, or nullptr
  int32_t queries = 0, head_dim = 0;
  float* score = nullptr;  // [queries][64]
};

// Values of `queries` heads over the first `count` entries of a block of 64 logical positions: one
// fma chain over them. Of Q8_0 values: weight times scale rounded to 16 bits, of the largest scale,
// then one exact integer.
struct WeighArgs {
  const float* weight = nullptr;            // [queries][64], zeros from `count` on
  const std::byte* const* value = nullptr;  // [count] rows of head_dim values, in logical order
  const uint16_t* scale = nullptr;          // [head_dim / 32][64] half, of Q8_0 values
  const void* next = nullptr;               // as for ScoreArgs
  int32_t queries = 0, count = 0, head_dim = 0;
  float* out = nullptr;  // [queries][head_dim]
  // [queries]: out = out * keep + result * gain; nullptr: out = result
  const float* keep = nullptr;
  const float* gain = nullptr;
};

// Of some queries, over all positions so far or over those of one block: attention is the weighted
// sum over `sum`. [queries] each.
struct Partials {
  float* max;
  float* sum;
};

// What depends on the type of keys and values.
struct KvKernels {
  void (*score)(const ScoreArgs& args);
  void (*weigh)(const WeighArgs& args);
};

// The operations of one instruction set. All tables give the same bits (exactness contract).
struct KernelTable {
  const char* name;
  MatmulTable matmul;

  // One row of `blocks` blocks; block b goes to out[b * stride].
  void (*quantize_k)(const float* x, int32_t blocks, ActivationK* out, int64_t stride);
  void (*quantize_32)(const float* x, int32_t blocks, Activation32* out, int64_t stride);

  void (*rms_norm)(const float* x, const float* weight, int32_t count, float epsilon, float* out);
  // cos_sin: `rotary` values, cosines then sines
  void (*rope)(float* x, int32_t heads, int32_t head_dim, const float* cos_sin, int32_t rotary,
               bool interleaved);
  void (*swiglu)(const float* gate, const float* up, int64_t count, float* out);
  void (*add)(float* x, const float* y, int64_t count);
  void (*scale)(const float* x, float factor, int64_t count, float* out);
  void (*to_half)(const float* x, int64_t count, uint16_t* out);

  KvKernels kv_f32, kv_f16, kv_q8_0;
  // score [queries][64], in place: exp(score - max) of the first `count`, zero for the others.
  void (*softmax)(float* score, int32_t queries, int32_t count, Partials block);
  // total += block; `keep` and `gain` rescale their weighted sums to the larger maximum.
  void (*merge)(int32_t queries, Partials total, Partials block, float* keep, float* gain);
  // out = out * keep + block * gain
  void (*rescale)(float* out, const float* block, int32_t count, float keep, float gain);
  void (*divide)(const float* x, float divisor, int64_t count, float* out);

  VocabularyKernels vocabulary;
  uint64_t (*read)(const void* data, int64_t bytes);  // touches every byte, 512 at a time
};

extern const KernelTable kKernelsScalar;
extern const KernelTable kKernelsAvx2;
extern const KernelTable kKernelsAvxVnni;
extern const KernelTable kKernelsAvx512;

}  // namespace forerun
