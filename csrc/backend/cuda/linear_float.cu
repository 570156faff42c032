#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <string>

#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/launch.h"
#include "base/error.h"

namespace forerun::cuda {
namespace {

struct Eight {
  float v[8];
};

__device__ __forceinline__ Eight load_eight(const float* at) {
  const float4 a = __ldg(reinterpret_cast<const float4*>(at)),
               b = __ldg(reinterpret_cast<const float4*>(at) + 1);
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}

__device__ __forceinline__ Eight load_eight(const __half* at) {
  const uint4 bits = __ldg(reinterpret_cast<const uint4*>(at));
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
  Eight out;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    out.v[i] =
        __half2float(__ushort_as_half(static_cast<unsigned short>(words[i / 2] >> (16 * (i % 2)))));
  }
  return out;
}

__device__ __forceinline__ Eight load_eight(const __nv_bfloat16* at) {
  const uint4 bits = __ldg(reinterpret_cast<const uint4*>(at));
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
  Eight out;
#pragma unroll
  for (int i = 0; i < 8; ++i)
    out.v[i] = __uint_as_float(i % 2 == 0 ? words[i / 2] << 16 : words[i / 2] & 0xFFFF0000U);
  return out;
}

// One output per warp (4 per block) and Rows rows: grid.x = outputs / 4, grid.y = row tiles. Lane l
// takes inputs 8 (l + 32 j) .. + 7, one fma chain each in input order; the lanes meet in a
// butterfly. Bound by memory bandwidth for few rows.
template <typename Element, int Rows>
__global__ void __launch_bounds__(128)
    linear_float_kernel(FloatMatrix w, Tensor x, Tensor out, bool aligned) {
  begin_kernel();
  const int lane = threadIdx.x % 32, output = blockIdx.x * 4 + threadIdx.x / 32,
            first_row = blockIdx.y * Rows;
  if (output >= w.outputs) return;
  const auto* weight =
      static_cast<const Element*>(w.data) + static_cast<int64_t>(output) * w.stride;
  float acc[Rows] = {};
#pragma unroll 2
  for (int input = lane * 8; input < w.inputs; input += 256) {
    const Eight a = load_eight(weight + input);
#pragma unroll
    for (int r = 0; r < Rows; ++r) {
      const float* row =
          x.data + static_cast<int64_t>(min(first_row + r, x.rows - 1)) * x.stride + input;
      Eight b;
      if (aligned) {
        b = load_eight(row);
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) b.v[i] = input + i < w.inputs ? row[i] : 0.0F;
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) acc[r] = fmaf(a.v[i], b.v[i], acc[r]);
    }
  }
#pragma unroll
  for (int r = 0; r < Rows; ++r) {
    for (int step = 16; step > 0; step /= 2) acc[r] += __shfl_xor_sync(~0U, acc[r], step);
    if (lane == 0 && first_row + r < x.rows) {
      const float sum = w.bias != nullptr ? acc[r] + w.bias[output] : acc[r];
      out.data[(first_row + r) * out.stride + output] = sum;
    }
  }
}

template <typename Element>
void launch_float(const FloatMatrix& w, Tensor x, Tensor out, cudaStream_t stream) {
  const bool aligned =
      w.inputs % 8 == 0 && x.stride % 4 == 0 && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
  const auto grid = [&](int rows) { return dim3((w.outputs + 3) / 4, (x.rows + rows - 1) / rows); };
  if (x.rows == 1) {
    launch("linear_float_kernel", linear_float_kernel<Element, 1>, grid(1), 128, 0, stream, w, x,
           out, aligned);
  } else if (x.rows <= 4) {
    launch("linear_float_kernel", linear_float_kernel<Element, 4>, grid(4), 128, 0, stream, w, x,
           out, aligned);
  } else {
    launch("linear_float_kernel", linear_float_kernel<Element, 8>, grid(8), 128, 0, stream, w, x,
           out, aligned);
  }
}

}  // namespace

void linear_float(DType dtype, const FloatMatrix& weight, Tensor x, Tensor out,
                  cudaStream_t stream) {
  switch (dtype) {
    case DType::kF32:
      return launch_float<float>(weight, x, out, stream);
    case DType::kF16:
      return launch_float<__half>(weight, x, out, stream);
    case DType::kBF16:
      return launch_float<__nv_bfloat16>(weight, x, out, stream);
    default:
      throw Error(ErrorKind::kUnsupported,
                  "cuda: no float kernel for " + std::string(dtype_info(dtype).name));
  }
}

}  // namespace forerun::cuda
