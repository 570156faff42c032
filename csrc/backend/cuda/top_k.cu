#include <algorithm>

#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/launch.h"

namespace forerun::cuda {
namespace {

constexpr int kSorted = 2048;  // keys per block, 16 KiB of shared memory

// The k largest keys of each run of kSorted, largest first: grid.x = runs, grid.y = rows. Bitonic
// sort. Every key but the filler 0 is unique, so the result does not depend on the order of work.
// First pass: keys from values.
__global__ void __launch_bounds__(512)
    top_k_kernel(Tensor x, const uint64_t* keys, int count, int k, uint64_t* out) {
  begin_kernel();
  auto* sorted = shared_memory<uint64_t>();  // [kSorted]
  const int first = blockIdx.x * kSorted;
  for (int i = threadIdx.x; i < kSorted; i += 512) {
    const int at = first + i;
    uint64_t key = 0;
    if (at < count) {
      key = keys != nullptr ? keys[static_cast<int64_t>(blockIdx.y) * count + at]
                            : top_k_key(x.data[blockIdx.y * x.stride + at], at);
    }
    sorted[i] = key;
  }
  __syncthreads();
  for (int size = 2; size <= kSorted; size *= 2) {
    for (int step = size / 2; step > 0; step /= 2) {
      for (int i = threadIdx.x; i < kSorted / 2; i += 512) {
        const int low = i / step * 2 * step + i % step, high = low + step;
        const uint64_t a = sorted[low], b = sorted[high];
        if ((a < b) == ((low & size) == 0)) {
          sorted[low] = b;
          sorted[high] = a;
        }
      }
      __syncthreads();
    }
  }
  uint64_t* to = out + (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * k;
  for (int i = threadIdx.x; i < k; i += 512) to[i] = sorted[i];
}

int runs_of(int count) { return (count + kSorted - 1) / kSorted; }

}  // namespace

int64_t top_k_keys(int32_t cols, int32_t k) { return static_cast<int64_t>(runs_of(cols)) * k; }

const uint64_t* top_k(Tensor x, int32_t k, uint64_t* first, uint64_t* second, cudaStream_t stream) {
  int count = x.cols;
  const uint64_t* from = nullptr;
  while (true) {
    const int runs = runs_of(count);
    launch("top_k_kernel", top_k_kernel, dim3(runs, x.rows), 512, kSorted * sizeof(uint64_t),
           stream, x, from, count, k, first);
    if (runs == 1) return first;
    count = runs * k;
    from = first;
    std::swap(first, second);
  }
}

}  // namespace forerun::cuda
