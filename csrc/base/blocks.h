#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace forerun {

// Quantised blocks as GGUF files store them (little-endian, packed; `d`, `m`, `dmin` are IEEE half
// floats). x = value of element i of the block, q = its unpacked code.
struct BlockQ4_0 {
  uint16_t d;
  uint8_t qs[16];
};  // x = d (q - 8); low nibbles first
struct BlockQ4_1 {
  uint16_t d, m;
  uint8_t qs[16];
};  // x = d q + m
struct BlockQ5_0 {
  uint16_t d;
  uint8_t qh[4];
  uint8_t qs[16];
};  // x = d (q - 16); bit i of qh is bit 4
struct BlockQ5_1 {
  uint16_t d, m;
  uint8_t qh[4];
  uint8_t qs[16];
};  // x = d q + m
struct BlockQ8_0 {
  uint16_t d;
  int8_t qs[32];
};  // x = d q
struct BlockQ4_K {
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t qs[128];
};  // x = d sc q - dmin mn, 8 groups of 32
struct BlockQ5_K {
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};
struct BlockQ6_K {
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint16_t d;
};  // x = d sc (q - 32), 16 x 16
static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_K) == 144);
static_assert(sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);

// One block of any quantised type as integers, the common form from which back ends pack their
// layouts. Legacy types fill 32 codes and one group; K types 256 codes. Element i belongs to group
// i / group_size and
//   x_i = d * scale[g] * (code_i - zero) - dmin * min[g]          (legacy *_1 types: dmin = -m, min
//   = 1)
struct UnpackedBlock {
  int32_t size;        // 32 or 256
  int32_t group_size;  // 32, or 16 for Q6_K
  int32_t zero;        // 0, 8, 16 or 32
  float d, dmin;
  int16_t code[256];  // Q8_0: -128..127; the others unsigned
  int16_t scale[16];  // legacy: 1; Q6_K: signed
  int16_t min[16];    // 0 where the type has none
};
void unpack_block(DType dtype, const void* block, UnpackedBlock& out);

// Values of `elements` consecutive elements (a multiple of the block) of any float or quantised
// type. Bit-equal to the `gguf` package's dequantiser. Throws Error(kUnsupported) for integer
// types.
FORERUN_API void dequantize(DType dtype, const void* data, int64_t elements, float* out);

float half_to_float(uint16_t half);
uint16_t float_to_half(float value);         // round to nearest even
uint16_t float_to_finite_half(float value);  // ... beyond the largest half that one; NaN stays NaN
float bfloat16_to_float(uint16_t bits);

}  // namespace forerun
