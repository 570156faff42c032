// clang-format off
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/dots_avx2.h"
#include "backend/cpu/kernels/all.inl"
// clang-format on

namespace forerun {

const KernelTable kKernelsAvx2 = make_table("avx2");

}  // namespace forerun
