#pragma once

#include <cstdint>

#include "backend/cpu/tile_config.h"

// The tile operations that kernels/tiles*.inl are written against, as AMX instructions; the tests
// have the same ones in plain C++. Written as assembly because the compiler's own intrinsics do not
// tell it what memory they read (GCC 12: 8 bytes of the configuration, nothing of a tile), so that
// it may drop or move the stores before them. The compiler never uses a tile itself.
namespace forerun {
namespace {

FORERUN_INLINE void tile_configure(const TileConfig& config) {
  __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
}
FORERUN_INLINE void tile_release() { __asm__ volatile("tilerelease" ::: "memory"); }

template <int kTile>
FORERUN_INLINE void tile_zero() {
  __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
template <int kTile>
FORERUN_INLINE void tile_load(const void* data, int64_t stride) {
  __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(kTile), "r"(data), "r"(stride) : "memory");
}
template <int kTile>
FORERUN_INLINE void tile_store(void* data, int64_t stride) {
  __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(kTile), "r"(data), "r"(stride)
                   : "memory");
}
// sum[row][lane] += a[row][4 k + i] * b[k][4 lane + i] over k and i: signed a; b unsigned or signed
template <int kSum, int kA, int kB>
FORERUN_INLINE void tile_dot_unsigned() {
  __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
}
template <int kSum, int kA, int kB>
FORERUN_INLINE void tile_dot_signed() {
  __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
}

}  // namespace
}  // namespace forerun
