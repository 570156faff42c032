#pragma once

#include <cstdint>

#include "backend/cpu/packed.h"

namespace forerun {

// `panels` neighbouring panels of one weight times `rows` activation rows:
// out[row][0, outputs) = x * w^T + bias.
struct MatmulArgs {
  const uint8_t* panel = nullptr;
  int64_t panel_bytes = 0;
  int32_t panels = 0;
  const uint8_t* next = nullptr;  // weights to be read after these, or nullptr
  int32_t outputs = 0;            // that exist: 16 for each panel, the weight's last may have fewer
  int32_t blocks = 0;             // superblocks, blocks of 32, or inputs for float weights
  const void* activation =
      nullptr;  // ActivationK or Activation32 [blocks][rows]; float types: fp32 rows
  int64_t activation_stride = 0;  // float types: values between rows
  int32_t rows = 0;
  const float* bias = nullptr;  // [outputs] or nullptr
  float* out = nullptr;
  int64_t out_stride = 0;
};
using MatmulKernel = void (*)(const MatmulArgs& args);

// One kernel for each type of weights; nullptr where this way of multiplying has none. All tables
// give the same bits for quantised weights (exactness contract).
struct MatmulTable {
  const char* name;
  MatmulKernel q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k, f32, f16, bf16;
};

// AMX tiles, for quantised weights; the machine's other operations come from the AVX-512 table.
extern const MatmulTable kMatmulAmx;

}  // namespace forerun
