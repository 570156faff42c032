// The kernels on tiles, over tiles in plain C++: never in the library.
// clang-format off
#include "backend/cpu/matmul_table.h"
#include "backend/cpu/simd_avx512.h"
#include "backend/tiles_emulated.h"
#include "backend/cpu/kernels/tiles_all.inl"
// clang-format on

namespace forerun::test {

extern const MatmulTable kMatmulEmulated;
const MatmulTable kMatmulEmulated = make_tile_table("tiles");

}  // namespace forerun::test
