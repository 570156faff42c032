#pragma once

#include <cstdint>

#include "backend/cpu/packed.h"
#include "backend/vocabulary.h"

namespace forerun {

// One panel of weights times `rows` activation rows: out[row][0, lanes) = x * w^T + bias.
struct MatmulArgs {
  const uint8_t* panel = nullptr;
  int32_t blocks = 0;  // superblocks, blocks of 32, or inputs for float weights
  const void* activation =
      nullptr;  // ActivationK or Activation32 [blocks][rows]; float types: fp32 rows
  int64_t activation_stride = 0;  // float types: values between rows
  int32_t rows = 0;
  int32_t lanes = kPanelRows;   // outputs that exist
  const float* bias = nullptr;  // [lanes] or nullptr
  float* out = nullptr;
  int64_t out_stride = 0;
};
using MatmulKernel = void (*)(const MatmulArgs& args);

// score[query][slot] = one fma chain over head_dim, for the 64 slots of a key block.
struct ScoreArgs {
  const float* query = nullptr;    // [queries][head_dim]
  const uint16_t* keys = nullptr;  // [head_dim][64]
  const void* next = nullptr;      // as many bytes as `keys` to be read soon, or nullptr
  int32_t queries = 0, head_dim = 0;
  float* score = nullptr;  // [queries][64]
};

// Values of `queries` heads over the first `count` entries of a block of 64 logical positions.
struct WeighArgs {
  const float* weight = nullptr;           // [queries][64]
  const uint16_t* const* value = nullptr;  // [count] rows of head_dim half floats, in logical order
  const void* next = nullptr;              // as for ScoreArgs
  int32_t queries = 0, count = 0, head_dim = 0;
  float* out = nullptr;  // [queries][head_dim]
};

// A running attention result, or that of one block: the weighted sum is `out` / `sum`.
struct Partial {
  float max, sum;
};

// The operations of one instruction set. All tables give the same bits (exactness contract).
struct KernelTable {
  const char* name;
  MatmulKernel q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k, f32, f16, bf16;

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

  void (*score)(const ScoreArgs& args);
  // In place: exp(score - max) of the first `count` of 64, zero for the others.
  Partial (*softmax)(float* score, int32_t count);
  void (*weigh)(const WeighArgs& args);
  // (total, total_out) += (block, block_out), rescaled to the larger maximum
  void (*combine)(Partial* total, float* total_out, const Partial* block, const float* block_out,
                  int32_t head_dim);
  void (*divide)(const float* x, float divisor, int64_t count, float* out);

  VocabularyKernels vocabulary;
  uint64_t (*read)(const void* data, int64_t bytes);  // touches every byte, 512 at a time
};

extern const KernelTable kKernelsScalar;
extern const KernelTable kKernelsAvx2;
extern const KernelTable kKernelsAvx512;

}  // namespace forerun
