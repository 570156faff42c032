#include "backend/cuda/elementwise.h"

#include <cuda_fp16.h>

#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/launch.h"

namespace forerun::cuda {
namespace {

// Grid: x = parts (heads, or 1), y = rows; Threads is a function of the width. Thread i chains the
// squares of i, i + Threads, ...; lanes meet in a butterfly, so do the warps' sums. The first kKept
// values of a thread stay in registers.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    rms_norm_kernel(Tensor x, int width, const float* weight, float epsilon, Tensor out) {
  begin_kernel();
  constexpr int kKept = 8;
  auto* warp_sum = shared_memory<float>();  // [Threads / 32]
  const float* in = x.data + blockIdx.y * x.stride + blockIdx.x * width;
  float* to = out.data + blockIdx.y * out.stride + blockIdx.x * width;
  float value[kKept], factor[kKept];
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    const int at = i * Threads + threadIdx.x;
    value[i] = at < width ? in[at] : 0.0F;
    factor[i] = at < width ? weight[at] : 0.0F;
  }
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kKept; ++i) sum = fmaf(value[i], value[i], sum);
  for (int i = kKept * Threads + threadIdx.x; i < width; i += Threads)
    sum = fmaf(in[i], in[i], sum);
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0U, sum, step);
  if (threadIdx.x % 32 == 0) warp_sum[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = threadIdx.x % 32 < Threads / 32 ? warp_sum[threadIdx.x % 32] : 0.0F;
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0U, sum, step);
  const float scale = 1.0F / sqrtf(sum / static_cast<float>(width) + epsilon);
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    const int at = i * Threads + threadIdx.x;
    if (at < width) to[at] = value[i] * scale * factor[i];
  }
  for (int i = kKept * Threads + threadIdx.x; i < width; i += Threads)
    to[i] = in[i] * scale * weight[i];
}

// Grid: x = heads, y = rows; a thread per pair.
__global__ void rope_kernel(Tensor x, int head_dim, Tensor cos_sin, bool interleaved) {
  begin_kernel();
  const int half = cos_sin.cols / 2, pair = threadIdx.x;
  if (pair >= half) return;
  float* head = x.data + blockIdx.y * x.stride + blockIdx.x * head_dim;
  const float* angles = cos_sin.data + blockIdx.y * cos_sin.stride;
  float* first = head + (interleaved ? 2 * pair : pair);
  float* second = interleaved ? first + 1 : first + half;
  const Pair rotated = rotate(*first, *second, angles[pair], angles[half + pair]);
  *first = rotated.first;
  *second = rotated.second;
}

// Grid of the two below: x = columns / 256.
__global__ void widen_kernel(const uint16_t* halves, Tensor out) {
  begin_kernel();
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i < out.cols) out.data[i] = __half2float(__ushort_as_half(halves[i]));
}

__global__ void narrow_kernel(Tensor x, uint16_t* halves) {
  begin_kernel();
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i >= x.cols) return;
  constexpr float kLargest = 65504.0F;
  const float value = x.data[i];
  halves[i] = __half_as_ushort(__float2half_rn(value > kLargest    ? kLargest
                                               : value < -kLargest ? -kLargest
                                                                   : value));
}

// Grid of the three below: x = columns / 256, y = rows.
__global__ void swiglu_kernel(Tensor gate, Tensor up, Tensor out) {
  begin_kernel();
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i >= out.cols) return;
  out.data[blockIdx.y * out.stride + i] =
      silu(gate.data[blockIdx.y * gate.stride + i]) * up.data[blockIdx.y * up.stride + i];
}

__global__ void add_kernel(Tensor x, Tensor y) {
  begin_kernel();
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i < x.cols) x.data[blockIdx.y * x.stride + i] += y.data[blockIdx.y * y.stride + i];
}

__global__ void blend_kernel(Tensor gate, Tensor a, Tensor b, Tensor out) {
  begin_kernel();
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i >= out.cols) return;
  const float share = 1.0F / (1.0F + exp_f32(-gate.data[blockIdx.y * gate.stride + i]));
  const float second = b.data[blockIdx.y * b.stride + i];
  out.data[blockIdx.y * out.stride + i] =
      fmaf(share, a.data[blockIdx.y * a.stride + i] - second, second);
}

__global__ void gather_kernel(Tensor x, const int32_t* rows, Tensor out) {
  begin_kernel();
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i < out.cols) out.data[blockIdx.y * out.stride + i] = x.data[rows[blockIdx.y] * x.stride + i];
}

dim3 grid_of(Tensor out) { return {(out.cols + 255U) / 256U, static_cast<unsigned>(out.rows)}; }

}  // namespace

void rms_norm(Tensor x, int32_t parts, const float* weight, float epsilon, Tensor out,
              cudaStream_t stream) {
  const int width = x.cols / parts;
  const auto run = [&](auto kernel, int threads) {
    const size_t shared = sizeof(float) * static_cast<size_t>(threads) / 32;
    launch("rms_norm_kernel", kernel, dim3(parts, x.rows), threads, shared, stream, x, width,
           weight, epsilon, out);
  };
  if (width <= 256) return run(rms_norm_kernel<64>, 64);
  if (width <= 2048) return run(rms_norm_kernel<256>, 256);
  run(rms_norm_kernel<1024>, 1024);
}

void rope(Tensor x, int32_t heads, Tensor cos_sin, bool interleaved, cudaStream_t stream) {
  const int threads = (cos_sin.cols / 2 + 31) / 32 * 32;
  launch("rope_kernel", rope_kernel, dim3(heads, x.rows), threads, 0, stream, x, x.cols / heads,
         cos_sin, interleaved);
}

void widen(const uint16_t* halves, Tensor out, cudaStream_t stream) {
  launch("widen_kernel", widen_kernel, grid_of(out), 256, 0, stream, halves, out);
}

void narrow(Tensor x, uint16_t* halves, cudaStream_t stream) {
  launch("narrow_kernel", narrow_kernel, grid_of(x), 256, 0, stream, x, halves);
}

void swiglu(Tensor gate, Tensor up, Tensor out, cudaStream_t stream) {
  launch("swiglu_kernel", swiglu_kernel, grid_of(out), 256, 0, stream, gate, up, out);
}

void add(Tensor x, Tensor y, cudaStream_t stream) {
  launch("add_kernel", add_kernel, grid_of(x), 256, 0, stream, x, y);
}

void blend(Tensor gate, Tensor a, Tensor b, Tensor out, cudaStream_t stream) {
  launch("blend_kernel", blend_kernel, grid_of(out), 256, 0, stream, gate, a, b, out);
}

void gather_rows(Tensor x, const int32_t* rows, Tensor out, cudaStream_t stream) {
  launch("gather_kernel", gather_kernel, grid_of(out), 256, 0, stream, x, rows, out);
}

}  // namespace forerun::cuda
