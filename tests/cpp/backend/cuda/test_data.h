#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "backend/backend.h"
#include "base/blocks.h"

namespace forerun::cuda_test {

inline std::vector<float> random_floats(int64_t count, uint32_t seed, float spread = 1.0F) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

inline void put_half(std::byte* at, float value) {
  const uint16_t half = float_to_half(value);
  std::memcpy(at, &half, sizeof(half));
}

// A matrix as a file holds it: random codes, scales that keep the values near 1.
struct FileMatrix {
  DType dtype;
  int64_t rows, cols;
  std::vector<std::byte> bytes;

  HostMatrix host() const { return {dtype, rows, cols, bytes.data()}; }
  int64_t row_bytes() const { return dtype_bytes(dtype, cols); }
  std::vector<float> row(int64_t index) const {
    std::vector<float> values(static_cast<size_t>(cols));
    dequantize(dtype, bytes.data() + index * row_bytes(), cols, values.data());
    return values;
  }
};

inline FileMatrix random_matrix(DType dtype, int64_t rows, int64_t cols, uint32_t seed) {
  FileMatrix matrix{dtype, rows, cols,
                    std::vector<std::byte>(static_cast<size_t>(dtype_bytes(dtype, rows * cols)))};
  std::mt19937 random(seed);
  if (!is_quantized(dtype)) {
    const std::vector<float> values = random_floats(rows * cols, seed, 0.05F);
    for (size_t i = 0; i < values.size(); ++i) {
      uint32_t bits;
      std::memcpy(&bits, &values[i], sizeof(bits));
      const auto bfloat = static_cast<uint16_t>(bits >> 16);
      if (dtype == DType::kF32) std::memcpy(&matrix.bytes[4 * i], &bits, 4);
      if (dtype == DType::kF16) put_half(&matrix.bytes[2 * i], values[i]);
      if (dtype == DType::kBF16) std::memcpy(&matrix.bytes[2 * i], &bfloat, 2);
    }
    return matrix;
  }
  for (std::byte& byte : matrix.bytes) byte = static_cast<std::byte>(random() & 0xFFU);
  std::uniform_real_distribution<float> scale(0.5F, 1.5F);
  const DTypeInfo& info = dtype_info(dtype);
  for (size_t block = 0; block < matrix.bytes.size();
       block += static_cast<size_t>(info.block_bytes)) {
    std::byte* at = matrix.bytes.data() + block;
    const bool super = info.block == 256;
    const bool minimum = dtype == DType::kQ4_1 || dtype == DType::kQ5_1;
    put_half(dtype == DType::kQ6_K ? at + 208 : at, scale(random) * (super ? 2e-4F : 5e-3F));
    if (super && dtype != DType::kQ6_K) put_half(at + 2, scale(random) * 2e-3F);
    if (minimum) put_half(at + 2, -scale(random) * 5e-2F);
  }
  return matrix;
}

inline constexpr DType kWeightTypes[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                         DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K,
                                         DType::kF32,  DType::kF16,  DType::kBF16};

}  // namespace forerun::cuda_test
