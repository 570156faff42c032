// clang-format off
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/simd_avx512.h"
#include "backend/cpu/kernels/all.inl"
// clang-format on

namespace forerun {

const KernelTable kKernelsAvx512 = make_table("avx512");

}  // namespace forerun
