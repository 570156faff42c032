#include <string>

#include "backend/cuda/elementwise.h"
#include "backend/cuda/linear_quantized.cuh"
#include "base/error.h"

namespace forerun::cuda {

extern template void linear_of<DType::kQ4_0>(const QuantizedRows&, const MatrixTasks&,
                                             cudaStream_t);
extern template void linear_of<DType::kQ4_1>(const QuantizedRows&, const MatrixTasks&,
                                             cudaStream_t);
extern template void linear_of<DType::kQ5_0>(const QuantizedRows&, const MatrixTasks&,
                                             cudaStream_t);
extern template void linear_of<DType::kQ5_1>(const QuantizedRows&, const MatrixTasks&,
                                             cudaStream_t);
extern template void linear_of<DType::kQ8_0>(const QuantizedRows&, const MatrixTasks&,
                                             cudaStream_t);
extern template void linear_of<DType::kQ4_K>(const QuantizedRows&, const MatrixTasks&,
                                             cudaStream_t);
extern template void linear_of<DType::kQ5_K>(const QuantizedRows&, const MatrixTasks&,
                                             cudaStream_t);
extern template void linear_of<DType::kQ6_K>(const QuantizedRows&, const MatrixTasks&,
                                             cudaStream_t);

namespace {

// Grid: x = 256 inputs, y = rows; one warp, lane l holds inputs 8 l .. 8 l + 7. Inputs past the
// last are zeros.
template <bool Super>
__global__ void quantize_kernel(Tensor x, QuantizedRows out) {
  begin_kernel();
  const int lane = threadIdx.x, block = blockIdx.x, row = blockIdx.y;
  const int first = block * 256 + lane * 8;
  float value[8];
  uint32_t most = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    value[i] = first + i < x.cols ? x.data[row * x.stride + first + i] : 0.0F;
    most = max(most, magnitude_bits(value[i]));
  }
#pragma unroll
  for (int step = 1; step < (Super ? 32 : 4); step *= 2)
    most = max(most, __shfl_xor_sync(~0U, most, step));
  const BlockScale scale = block_scale(most);
  uint32_t words[2] = {0, 0};
  int32_t sum = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int32_t code = quantize(value[i], scale.inverse);
    sum += code;
    words[i / 4] |= (static_cast<uint32_t>(code) & 0xFFU) << (8 * (i % 4));
  }
  sum += __shfl_xor_sync(~0U, sum, 1);
  sum += __shfl_xor_sync(~0U, sum, 2);
  std::byte* codes = out.codes + (static_cast<int64_t>(first / 64) * out.padded + row) * 64;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    *reinterpret_cast<uint32_t*>(codes + activation_offset(first % 64 + 4 * i)) = words[i];
  }
  if constexpr (Super) {
    const int64_t at = static_cast<int64_t>(block) * out.padded + row;
    if (lane == 0) out.scale[at] = scale.d;
    if (lane % 4 == 0) out.sums[at * 8 + lane / 4] = static_cast<int16_t>(sum);
  } else if (lane % 4 == 0) {
    const int64_t at = static_cast<int64_t>(first / 32) * out.padded + row;
    reinterpret_cast<float2*>(out.scale)[at] = {scale.d, scale.d * static_cast<float>(sum)};
  }
}

// Calls f with a std::integral_constant of the type.
template <typename F>
auto with_type(DType dtype, const F& f) {
  switch (dtype) {
    case DType::kQ4_0:
      return f(std::integral_constant<DType, DType::kQ4_0>());
    case DType::kQ4_1:
      return f(std::integral_constant<DType, DType::kQ4_1>());
    case DType::kQ5_0:
      return f(std::integral_constant<DType, DType::kQ5_0>());
    case DType::kQ5_1:
      return f(std::integral_constant<DType, DType::kQ5_1>());
    case DType::kQ8_0:
      return f(std::integral_constant<DType, DType::kQ8_0>());
    case DType::kQ4_K:
      return f(std::integral_constant<DType, DType::kQ4_K>());
    case DType::kQ5_K:
      return f(std::integral_constant<DType, DType::kQ5_K>());
    case DType::kQ6_K:
      return f(std::integral_constant<DType, DType::kQ6_K>());
    default:
      throw Error(ErrorKind::kUnsupported,
                  "cuda: no quantised kernel for " + std::string(dtype_info(dtype).name));
  }
}

}  // namespace

TiledLimits tiled_limits() {
  TiledLimits limits;
  int device = 0;
  check(cudaGetDevice(&device), "ask for the device");
  check(cudaDeviceGetAttribute(&limits.major, cudaDevAttrComputeCapabilityMajor, device),
        "ask for the device");
  check(cudaDeviceGetAttribute(&limits.processors, cudaDevAttrMultiProcessorCount, device),
        "ask for the device");
  check(cudaDeviceGetAttribute(&limits.shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "ask for the device");
  return limits;
}

int64_t packed_record(DType dtype) {
  return is_quantized(dtype)
             ? with_type(dtype, [](auto type) { return int64_t{Packed<type.value>::kRecord}; })
             : 0;
}

int32_t packed_unit(DType dtype) {
  return with_type(dtype, [](auto type) { return int32_t{Packed<type.value>::kUnit}; });
}

bool packed_super(DType dtype) {
  return with_type(dtype, [](auto type) { return FileBlock<type.value>::kSuper; });
}

void pack_blocks(DType dtype, const void* file, int32_t outputs, int32_t inputs, void* packed,
                 cudaStream_t stream) {
  with_type(dtype, [&](auto type) { pack_of<type.value>(file, outputs, inputs, packed, stream); });
}

void linear_quantized(DType dtype, const QuantizedRows& x, const MatrixTasks& tasks,
                      cudaStream_t stream) {
  with_type(dtype, [&](auto type) { linear_of<type.value>(x, tasks, stream); });
}

void quantize_rows(Tensor x, bool super, const QuantizedRows& out, cudaStream_t stream) {
  const dim3 grid(round_up(x.cols, 256) / 256, x.rows);
  if (super) {
    launch("quantize_kernel", quantize_kernel<true>, grid, 32, 0, stream, x, out);
  } else {
    launch("quantize_kernel", quantize_kernel<false>, grid, 32, 0, stream, x, out);
  }
}

}  // namespace forerun::cuda
