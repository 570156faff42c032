// clang-format off
#include "backend/cpu/matmul_table.h"
#include "backend/cpu/simd_avx512.h"
#include "backend/cpu/tiles_amx.h"
#include "backend/cpu/kernels/tiles_all.inl"
// clang-format on

namespace forerun {

const MatmulTable kMatmulAmx = make_tile_table("amx");

}  // namespace forerun
