// Where the x86 instruction sets do not exist: their tables are never chosen (base/cpu_features.h).
#include "backend/cpu/kernel_table.h"

namespace forerun {

const KernelTable kKernelsAvx2 = {};
const KernelTable kKernelsAvxVnni = {};
const KernelTable kKernelsAvx512 = {};
const MatmulTable kMatmulAmx = {};

}  // namespace forerun
