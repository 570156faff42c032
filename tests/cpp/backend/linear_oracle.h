#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "base/blocks.h"

// The contract's arithmetic written down plainly, one output at a time, and the same product in
// double.
namespace forerun::test {

struct QuantizedBlock {
  std::vector<int32_t> code;
  float d = 0.0F;
};

inline QuantizedBlock quantize_block(const float* x, int32_t count) {
  float amax = 0.0F;
  for (int32_t i = 0; i < count; ++i) amax = std::max(amax, std::fabs(x[i]));
  QuantizedBlock block;
  block.code.resize(static_cast<size_t>(count));
  if (amax < 1e-30F) return block;
  block.d = amax / 127.0F;
  const float inverse = 127.0F / amax;
  for (int32_t i = 0; i < count; ++i) {
    block.code[static_cast<size_t>(i)] = static_cast<int32_t>(std::nearbyint(x[i] * inverse));
  }
  return block;
}

struct Product {
  float exact = 0.0F;    // the bits that a kernel must give
  double value = 0.0;    // dequantised weights times the unquantised activations
  double allowed = 0.0;  // |exact - value| by half a step of every activation, and rounding
};

inline void add_block(DType dtype, const UnpackedBlock& block, const float* x, Product& sum) {
  const QuantizedBlock q = quantize_block(x, block.size);
  int32_t isum = 0;
  int32_t imin = 0;
  for (int32_t i = 0; i < block.size; ++i) {
    const int32_t group = i / block.group_size;
    const int32_t code = q.code[static_cast<size_t>(i)];
    isum += block.scale[group] * (block.code[i] - block.zero) * code;
    imin += block.min[group] * code;
    const double weight = double{block.d} * block.scale[group] * (block.code[i] - block.zero) -
                          double{block.dmin} * block.min[group];
    sum.value += weight * x[i];
    sum.allowed += std::fabs(weight) * q.d * 0.5001 + std::fabs(weight * x[i]) * 1e-5;
    // codes and minima are rounded apart from each other before they cancel
    sum.allowed += std::fabs(double{block.dmin} * block.min[group] * x[i]) * 1e-5;
  }
  const bool legacy_min = dtype == DType::kQ4_1 || dtype == DType::kQ5_1;
  const bool k_min = dtype == DType::kQ4_K || dtype == DType::kQ5_K;
  sum.exact = std::fma(block.d * q.d, static_cast<float>(isum), sum.exact);
  if (k_min) sum.exact = std::fma(-(block.dmin * q.d), static_cast<float>(imin), sum.exact);
  if (legacy_min) sum.exact = std::fma(-block.dmin, q.d * static_cast<float>(imin), sum.exact);
}

inline Product product(const HostMatrix& matrix, int64_t output, const float* x) {
  Product sum;
  const DTypeInfo& info = dtype_info(matrix.dtype);
  const std::byte* row = matrix.data + output * dtype_bytes(matrix.dtype, matrix.cols);
  if (is_quantized(matrix.dtype)) {
    UnpackedBlock block;
    for (int64_t k = 0; k < matrix.cols; k += info.block, row += info.block_bytes) {
      unpack_block(matrix.dtype, row, block);
      add_block(matrix.dtype, block, x + k, sum);
    }
    return sum;
  }
  std::vector<float> weight(static_cast<size_t>(matrix.cols));
  dequantize(matrix.dtype, row, matrix.cols, weight.data());
  for (int64_t k = 0; k < matrix.cols; ++k) {
    const float w = weight[static_cast<size_t>(k)];
    sum.exact = std::fma(w, x[k], sum.exact);
    sum.value += double{w} * x[k];
    sum.allowed += std::fabs(double{w} * x[k]) * 1e-5;
  }
  return sum;
}

}  // namespace forerun::test
