#pragma once

#include <algorithm>

#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/linear_unit.cuh"

namespace forerun::cuda {

// The product for many rows, where the activations are what has to be moved: 8 warps (128 outputs)
// share them in shared memory, filled by asynchronous copies some units ahead, and a warp takes the
// 8 slices one after the other.
constexpr int kTiledWarps = 8;
constexpr int kTiledOutputs = 16 * kTiledWarps;

template <DType T, int Tiles>
struct TiledStage {
  using P = Packed<T>;
  static constexpr int kRows = 8 * Tiles;
  static constexpr int kCodes = kTiledWarps * P::kRecord;  // byte offset of each part
  static constexpr int kScale = kCodes + P::kUnit * kRows;
  static constexpr int kScaleBytes = kRows * 4 * (P::File::kSuper ? 1 : 4 * P::kChunks);
  static constexpr int kSums = kScale + kScaleBytes;
  static constexpr int kBytes = kSums + (P::File::kSuper ? kRows * 16 : 0);
  static constexpr int kOutStride =
      kTiledOutputs + 4;  // floats; the results of a block, after the last stage
  static constexpr int kOutBytes = kRows * kOutStride * 4;
};

// Walks the units, slice by slice.
struct UnitCursor {
  int units, slice = 0, unit = 0;
  __device__ bool done() const { return slice >= kSlices; }
  __device__ void advance() {
    unit += kSlices;
    if (unit < units) return;
    unit = ++slice;
    if (unit >= units) slice = kSlices;
  }
};

template <DType T, int Tiles>
__device__ __forceinline__ void copy_weights(std::byte* stage, const std::byte* record, int warp,
                                             int lane) {
  using P = Packed<T>;
#pragma unroll
  for (int i = lane; i < P::kRecord / 16; i += 32)
    copy_async(stage + warp * P::kRecord + i * 16, record + i * 16);
}

template <DType T, int Tiles>
__device__ __forceinline__ void copy_rows(std::byte* stage, const QuantizedRows& x, int unit,
                                          int first_row) {
  using P = Packed<T>;
  using S = TiledStage<T, Tiles>;
  constexpr int kThreads = 32 * kTiledWarps;
  const UnitRows rows = unit_rows<T>(x, unit, first_row);
#pragma unroll
  for (int i = threadIdx.x; i < P::kUnit * S::kRows / 16; i += kThreads) {
    const int chunk = i / (4 * S::kRows), at = i % (4 * S::kRows);
    copy_async(stage + S::kCodes + i * 16,
               rows.codes + static_cast<int64_t>(chunk) * x.padded * 64 + at * 16);
  }
  constexpr int kGroup = S::kRows * (P::File::kSuper ? 4 : 8);  // bytes of scales per group
  for (int i = threadIdx.x; i < S::kScaleBytes / 16; i += kThreads) {
    const int group = i * 16 / kGroup, at = i * 16 % kGroup;
    const auto* from = reinterpret_cast<const std::byte*>(rows.scale) +
                       static_cast<int64_t>(group) * x.padded * 8 + at;
    copy_async(stage + S::kScale + i * 16, from);
  }
  if constexpr (P::File::kSuper) {
    for (int i = threadIdx.x; i < S::kRows; i += kThreads)
      copy_async(stage + S::kSums + i * 16, rows.sums + i * 8);
  }
}

// Adds what slice `index` of a block gave to the balanced tree: stack[level] waits for its right
// neighbour.
template <int Tiles>
__device__ __forceinline__ void add_slice(int index, float (&acc)[Tiles][4],
                                          float (&stack)[3][Tiles * 4]) {
  int level = 0;
  for (; (index >> level & 1) != 0; ++level) {
#pragma unroll
    for (int i = 0; i < 4 * Tiles; ++i) acc[i / 4][i % 4] = stack[level][i] + acc[i / 4][i % 4];
  }
  if (level == 3) return;  // the eighth: all of it is in acc
#pragma unroll
  for (int i = 0; i < 4 * Tiles; ++i) stack[level][i] = acc[i / 4][i % 4];
}

// Grid: x = 128 outputs, y = 8 * Tiles rows. Shared: `stages` (2 or 3) TiledStage. Bound by the
// integer instructions that apply the scales.
template <DType T, int Tiles>
__global__ void __launch_bounds__(32 * kTiledWarps, 2)
    linear_tiled_kernel(const __grid_constant__ QuantizedRows x,
                        const __grid_constant__ MatrixTasks tasks, int stages) {
#if __CUDA_ARCH__ >= 800
  let_next_start();
  using P = Packed<T>;
  using S = TiledStage<T, Tiles>;
  auto* shared = shared_memory<std::byte>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int panel = min(blockIdx.x * kTiledWarps + warp, tasks.panels - 1);
  const int first_row = blockIdx.y * S::kRows;
  const MatrixTask& task = task_of(tasks, panel);
  const std::byte* records =
      task.data + static_cast<int64_t>(panel - task.first_panel) * tasks.units * P::kRecord;
  const auto record = [&](int unit) { return records + static_cast<int64_t>(unit) * P::kRecord; };

  UnitCursor ahead{tasks.units}, now = ahead;
  for (int i = 0; i < stages - 1 && !ahead.done(); ++i, ahead.advance()) {
    copy_weights<T, Tiles>(shared + i * S::kBytes, record(ahead.unit), warp, lane);
  }
  wait_for_inputs();
  ahead = now;
  for (int i = 0; i < stages - 1; ++i) {
    if (!ahead.done()) {
      copy_rows<T, Tiles>(shared + i * S::kBytes, x, ahead.unit, first_row);
      ahead.advance();
    }
    commit_copies();
  }

  float acc[Tiles][4] = {};
  float stack[3][Tiles * 4];
  int slice = 0, stage = 0;
  for (; !now.done(); now.advance()) {
    for (; slice < now.slice; ++slice) {
      add_slice<Tiles>(slice, acc, stack);
#pragma unroll
      for (int i = 0; i < 4 * Tiles; ++i) acc[i / 4][i % 4] = 0.0F;
    }
    if (stages == 3) {
      wait_copies<1>();
    } else {
      wait_copies<0>();
    }
    __syncthreads();
    if (!ahead.done()) {
      std::byte* free_stage = shared + (stage == 0 ? stages - 1 : stage - 1) * S::kBytes;
      copy_weights<T, Tiles>(free_stage, record(ahead.unit), warp, lane);
      copy_rows<T, Tiles>(free_stage, x, ahead.unit, first_row);
      ahead.advance();
    }
    commit_copies();
    const std::byte* filled = shared + stage * S::kBytes;
    Raw<T> raw;
    raw.template load<true>(filled + warp * P::kRecord, lane);
    const UnitRows rows{filled + S::kCodes, reinterpret_cast<const float*>(filled + S::kScale),
                        reinterpret_cast<const int16_t*>(filled + S::kSums), S::kRows, S::kRows};
    add_unit<T, Tiles>(raw, rows, lane, acc);
    stage = stage + 1 == stages ? 0 : stage + 1;
  }
  for (; slice < kSlices; ++slice) {  // the last one, and slices without units
    add_slice<Tiles>(slice, acc, stack);
    if (slice + 1 == kSlices) break;
#pragma unroll
    for (int i = 0; i < 4 * Tiles; ++i) acc[i / 4][i % 4] = 0.0F;
  }

  wait_copies<0>();
  __syncthreads();
  auto* sums = reinterpret_cast<float*>(shared);
#pragma unroll
  for (int tile = 0; tile < Tiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sums[(tile * 8 + 2 * (lane % 4) + i % 2) * S::kOutStride + warp * 16 + lane / 4 +
           8 * (i / 2)] = acc[tile][i];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kTiledOutputs * S::kRows; i += 32 * kTiledWarps) {
    const int row = i / kTiledOutputs, local = i % kTiledOutputs;
    const int panel_here = blockIdx.x * kTiledWarps + local / 16;
    if (first_row + row >= x.rows || panel_here >= tasks.panels) continue;
    const MatrixTask& to = task_of(tasks, panel_here);
    const int output = (panel_here - to.first_panel) * 16 + local % 16;
    if (output >= to.outputs) continue;
    const float sum = sums[row * S::kOutStride + local];
    to.out[(first_row + row) * to.stride + output] =
        to.bias != nullptr ? sum + to.bias[output] : sum;
  }
#endif
}

// What the current device offers, asked once.
struct TiledLimits {
  int major = 0, processors = 0, shared = 0;
};
TiledLimits tiled_limits();

// False when this device cannot run it, or when the outputs and rows are too few to fill it.
template <DType T, int Tiles>
bool launch_tiled(const QuantizedRows& x, const MatrixTasks& tasks, cudaStream_t stream) {
  using S = TiledStage<T, Tiles>;
  static const TiledLimits limits = tiled_limits();
  const int stages = std::min(3, limits.shared / S::kBytes);
  if (limits.major < 8 || stages < 2) return false;
  const int shared = std::max(stages * S::kBytes, S::kOutBytes);
  static thread_local int prepared_device = -1;
  int device = 0;
  check(cudaGetDevice(&device), "ask for the device");
  if (device != prepared_device) {
    check(cudaFuncSetAttribute(linear_tiled_kernel<T, Tiles>,
                               cudaFuncAttributeMaxDynamicSharedMemorySize, shared),
          "ask for shared memory");
    prepared_device = device;
  }
  const dim3 grid((tasks.panels + kTiledWarps - 1) / kTiledWarps,
                  (x.rows + S::kRows - 1) / S::kRows);
  if (static_cast<int>(grid.x * grid.y) < limits.processors) return false;
  launch("linear_tiled_kernel", linear_tiled_kernel<T, Tiles>, grid, 32 * kTiledWarps,
         static_cast<size_t>(shared), stream, x, tasks, stages);
  return true;
}

}  // namespace forerun::cuda
