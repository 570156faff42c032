// clang-format off
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/dots_avxvnni.h"
#include "backend/cpu/kernels/all.inl"
// clang-format on

namespace forerun {

const KernelTable kKernelsAvxVnni = make_table("avxvnni");

}  // namespace forerun
