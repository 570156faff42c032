#pragma once

#include <cstdint>

namespace forerun::cuda {

// Integer matrix instructions on signed bytes: A 16 x k, B k x 8, C 16 x 8, all of one warp. Lane
// (g = l / 4, t = l % 4) holds A as packed_layout.h says, B inputs 4 t + 16 i + 0..3 of column g in
// word i, and C outputs g + 8 (i / 2), columns 2 t + i % 2. sm_75 lacks m16n8k*: four (two) m8n8k16
// take the same registers.

struct Tile {
  int32_t v[4];
};

__device__ __forceinline__ void mma_8x8x16(int32_t& c0, int32_t& c1, uint32_t a, uint32_t b) {
  asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};\n"
      : "+r"(c0), "+r"(c1)
      : "r"(a), "r"(b));
}

// 32 inputs.
__device__ __forceinline__ Tile mma_32(const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Tile c{{0, 0, 0, 0}};
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
      "%9}, {%0, %1, %2, %3};\n"
      : "+r"(c.v[0]), "+r"(c.v[1]), "+r"(c.v[2]), "+r"(c.v[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  mma_8x8x16(c.v[0], c.v[1], a[0], b0);
  mma_8x8x16(c.v[0], c.v[1], a[2], b1);
  mma_8x8x16(c.v[2], c.v[3], a[1], b0);
  mma_8x8x16(c.v[2], c.v[3], a[3], b1);
#endif
  return c;
}

// 16 inputs: one half of the registers of mma_32.
__device__ __forceinline__ Tile mma_16(uint32_t a0, uint32_t a1, uint32_t b) {
  Tile c{{0, 0, 0, 0}};
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, "
      "%2, %3};\n"
      : "+r"(c.v[0]), "+r"(c.v[1]), "+r"(c.v[2]), "+r"(c.v[3])
      : "r"(a0), "r"(a1), "r"(b));
#else
  mma_8x8x16(c.v[0], c.v[1], a0, b);
  mma_8x8x16(c.v[2], c.v[3], a1, b);
#endif
  return c;
}

// Weights are read once: they pass by the first-level cache.
__device__ __forceinline__ uint4 load_streaming(const void* at) {
  uint4 v;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "l"(at));
  return v;
}

}  // namespace forerun::cuda
