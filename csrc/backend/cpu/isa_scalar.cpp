// clang-format off
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/simd_scalar.h"
#include "backend/cpu/kernels/all.inl"
// clang-format on

namespace forerun {

const KernelTable kKernelsScalar = make_table("scalar");

}  // namespace forerun
