#include "base/dtype.h"

#include <array>
#include <string>

#include "base/error.h"

namespace forerun {

const DTypeInfo& dtype_info(DType dtype) {
  static constexpr std::array<DTypeInfo, kDTypeCount> kInfo{{
      {"F32", 1, 4},
      {"F16", 1, 2},
      {"BF16", 1, 2},
      {"I8", 1, 1},
      {"I32", 1, 4},
      {"Q4_0", 32, 18},
      {"Q4_1", 32, 20},
      {"Q5_0", 32, 22},
      {"Q5_1", 32, 24},
      {"Q8_0", 32, 34},
      {"Q4_K", 256, 144},
      {"Q5_K", 256, 176},
      {"Q6_K", 256, 210},
  }};
  return kInfo[static_cast<size_t>(dtype)];
}

int64_t dtype_bytes(DType dtype, int64_t elements) {
  const DTypeInfo& info = dtype_info(dtype);
  int64_t bytes = 0;
  if (elements < 0 || elements % info.block != 0 ||
      __builtin_mul_overflow(elements / info.block, static_cast<int64_t>(info.block_bytes),
                             &bytes)) {
    throw Error(ErrorKind::kBadArgument,
                std::to_string(elements) + " elements do not fill blocks of " +
                    std::string(info.name) + " (" + std::to_string(info.block) + " each)");
  }
  return bytes;
}

}  // namespace forerun
