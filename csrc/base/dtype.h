#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.h"

namespace forerun {

// Element types of tensors. The quantised ones are stored in blocks (base/blocks.h).
enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kI8,
  kI32,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,  // blocks of 32
  kQ4_K,
  kQ5_K,
  kQ6_K,  // superblocks of 256
};
inline constexpr int kDTypeCount = 13;

struct DTypeInfo {
  std::string_view name;  // as GGUF tools print it: "F32", "Q4_K"
  int32_t block;          // elements per block, 1 for plain types
  int32_t block_bytes;    // bytes per block
};

FORERUN_API const DTypeInfo& dtype_info(DType dtype);
inline bool is_quantized(DType dtype) { return dtype >= DType::kQ4_0; }

// Bytes of `elements` consecutive elements. Throws Error(kBadArgument) unless elements is a
// multiple of the block and the product fits int64.
FORERUN_API int64_t dtype_bytes(DType dtype, int64_t elements);

}  // namespace forerun
