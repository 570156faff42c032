// clang-format off
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/dots_avxvnni.h"
#include "backend/cpu/kernels/all.inl"
// clang-format on

namespace forerun::test {

extern const KernelTable kKernelsAvxVnniEvex;
const KernelTable kKernelsAvxVnniEvex = make_table("evex");

}  // namespace forerun::test
