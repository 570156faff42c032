// The kernels on tiles; the including file has chosen simd_avx512.h and its tiles.
// clang-format off
#include "backend/cpu/kernels/codes.inl"
#include "backend/cpu/kernels/tiles.inl"
#include "backend/cpu/kernels/tiles_k.inl"
#include "backend/cpu/kernels/tiles_legacy.inl"
// clang-format on

namespace forerun {
namespace {

constexpr MatmulTable make_tile_table(const char* name) {
  return {.name = name,
          .q4_0 = matmul_tiles<TileBlocks<CodesQ4, 8, false>>,
          .q4_1 = matmul_tiles<TileBlocks<CodesQ4, 0, true>>,
          .q5_0 = matmul_tiles<TileBlocks<CodesQ5, 16, false>>,
          .q5_1 = matmul_tiles<TileBlocks<CodesQ5, 0, true>>,
          .q8_0 = matmul_tiles<TileBlocks<CodesQ8, 0, false>>,
          .q4_k = matmul_tiles<TileSuperblock<CodesQ4K>>,
          .q5_k = matmul_tiles<TileSuperblock<CodesQ5K>>,
          .q6_k = matmul_tiles<TileSuperblock<CodesQ6K>>};
}

}  // namespace
}  // namespace forerun
