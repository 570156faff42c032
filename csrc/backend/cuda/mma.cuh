#pragma once

#include <cstdint>

#include "backend/cuda/device.cuh"

namespace forerun::cuda {

// Products of signed bytes: A 16 x k, B k x 8, C 16 x 8, all of one warp. Lane (g = l / 4, t = l %
// 4) holds A as packed_layout.h says, B inputs 4 t + 16 i + 0..3 of column g in word i, and C
// outputs g + 8 (i / 2), columns 2 t + i % 2. sm_75 lacks m16n8k*: four (two) m8n8k16 take the same
// registers.

struct Tile {
  int32_t v[4];
};

// 32 inputs.
__device__ __forceinline__ Tile mma_32(const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Tile c{{0, 0, 0, 0}};
#if __CUDA_ARCH__ >= 800
  mma_m16n8k32(c.v, a, b0, b1);
#else
  mma_m8n8k16(c.v[0], c.v[1], a[0], b0);
  mma_m8n8k16(c.v[0], c.v[1], a[2], b1);
  mma_m8n8k16(c.v[2], c.v[3], a[1], b0);
  mma_m8n8k16(c.v[2], c.v[3], a[3], b1);
#endif
  return c;
}

// 16 inputs: one half of the registers of mma_32.
__device__ __forceinline__ Tile mma_16(uint32_t a0, uint32_t a1, uint32_t b) {
  Tile c{{0, 0, 0, 0}};
#if __CUDA_ARCH__ >= 800
  mma_m16n8k16(c.v, a0, a1, b);
#else
  mma_m8n8k16(c.v[0], c.v[1], a0, b);
  mma_m8n8k16(c.v[2], c.v[3], a1, b);
#endif
  return c;
}

}  // namespace forerun::cuda
