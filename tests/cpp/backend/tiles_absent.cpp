// Where there is no AVX-512, which the kernels on tiles need: never chosen (cpu_fixture.h).
#include "backend/cpu/matmul_table.h"

namespace forerun::test {

extern const MatmulTable kMatmulEmulated;
const MatmulTable kMatmulEmulated = {};

}  // namespace forerun::test
