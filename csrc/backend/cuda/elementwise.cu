#include "backend/cuda/elementwise.h"

#include "backend/cuda/launch.h"
#include "backend/cuda/runtime.h"

namespace forerun::cuda {
namespace {

// Grid: x = parts (heads, or 1), y = rows; 128 threads. Thread i chains the squares of i, i + 128, ...; lanes meet in
// a butterfly, the four warps are added in order.
__global__ void __launch_bounds__(128) rms_norm_kernel(Tensor x, int width, const float* weight, float epsilon,
                                                       Tensor out) {
  __shared__ float warp_sum[4];
  const float* in = x.data + blockIdx.y * x.stride + blockIdx.x * width;
  float* to = out.data + blockIdx.y * out.stride + blockIdx.x * width;
  float sum = 0.0F;
  for (int i = threadIdx.x; i < width; i += 128) sum = fmaf(in[i], in[i], sum);
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0U, sum, step);
  if (threadIdx.x % 32 == 0) warp_sum[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = ((warp_sum[0] + warp_sum[1]) + warp_sum[2]) + warp_sum[3];
  const float scale = 1.0F / sqrtf(sum / static_cast<float>(width) + epsilon);
  for (int i = threadIdx.x; i < width; i += 128) to[i] = in[i] * scale * weight[i];
}

// Grid: x = heads, y = rows; a thread per pair.
__global__ void rope_kernel(Tensor x, int head_dim, Tensor cos_sin, bool interleaved) {
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

// Grid of the three below: x = columns / 256, y = rows.
__global__ void swiglu_kernel(Tensor gate, Tensor up, Tensor out) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i >= out.cols) return;
  out.data[blockIdx.y * out.stride + i] = silu(gate.data[blockIdx.y * gate.stride + i]) * up.data[blockIdx.y * up.stride + i];
}

__global__ void add_kernel(Tensor x, Tensor y) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i < x.cols) x.data[blockIdx.y * x.stride + i] += y.data[blockIdx.y * y.stride + i];
}

__global__ void gather_kernel(Tensor x, const int32_t* rows, Tensor out) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i < out.cols) out.data[blockIdx.y * out.stride + i] = x.data[rows[blockIdx.y] * x.stride + i];
}

dim3 grid_of(Tensor out) { return {(out.cols + 255U) / 256U, static_cast<unsigned>(out.rows)}; }

}  // namespace

void rms_norm(Tensor x, int32_t parts, const float* weight, float epsilon, Tensor out, cudaStream_t stream) {
  rms_norm_kernel<<<dim3(parts, x.rows), 128, 0, stream>>>(x, x.cols / parts, weight, epsilon, out);
  check_launch("rms_norm_kernel");
}

void rope(Tensor x, int32_t heads, Tensor cos_sin, bool interleaved, cudaStream_t stream) {
  const int threads = (cos_sin.cols / 2 + 31) / 32 * 32;
  rope_kernel<<<dim3(heads, x.rows), threads, 0, stream>>>(x, x.cols / heads, cos_sin, interleaved);
  check_launch("rope_kernel");
}

void swiglu(Tensor gate, Tensor up, Tensor out, cudaStream_t stream) {
  swiglu_kernel<<<grid_of(out), 256, 0, stream>>>(gate, up, out);
  check_launch("swiglu_kernel");
}

void add(Tensor x, Tensor y, cudaStream_t stream) {
  add_kernel<<<grid_of(x), 256, 0, stream>>>(x, y);
  check_launch("add_kernel");
}

void gather_rows(Tensor x, const int32_t* rows, Tensor out, cudaStream_t stream) {
  gather_kernel<<<grid_of(out), 256, 0, stream>>>(x, rows, out);
  check_launch("gather_kernel");
}

}  // namespace forerun::cuda
