// Where there is no AVX-512, which these kernels need: never chosen (cpu_fixture.h).
#include "backend/cpu/kernel_table.h"

namespace forerun::test {

extern const MatmulTable kMatmulEmulated;
const MatmulTable kMatmulEmulated = {};
extern const KernelTable kKernelsAvxVnniEvex;
const KernelTable kKernelsAvxVnniEvex = {};

}  // namespace forerun::test
