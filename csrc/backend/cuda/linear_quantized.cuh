#pragma once

#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/linear_tiled.cuh"
#include "backend/cuda/linear_unit.cuh"

namespace forerun::cuda {

// What the slices of a block meet in: [slice][row][output].
template <int Tiles>
using Partial = float[kSlices][8 * Tiles][17];

// out[row][output] for 16 outputs x 8 * Tiles rows per block: grid.x = panels of all tasks, grid.y
// = row tiles. 8 warps, one per slice; the slices meet in shared memory. Reads each weight once per
// grid.y; bound by memory bandwidth while the rows are few.
template <DType T, int Tiles>
__global__ void __launch_bounds__(32 * kSlices, Tiles <= 2 ? 2 : 1)
    linear_quantized_kernel(const __grid_constant__ QuantizedRows x,
                            const __grid_constant__ MatrixTasks tasks) {
  let_next_start();
  using P = Packed<T>;
  constexpr int kRows = 8 * Tiles;
  auto& partial = *shared_memory<Partial<Tiles>>();
  const int lane = threadIdx.x % 32, slice = threadIdx.x / 32;
  const MatrixTask& task = task_of(tasks, blockIdx.x);
  const int panel = blockIdx.x - task.first_panel;
  const int first_row = blockIdx.y * kRows;
  const std::byte* records = task.data + static_cast<int64_t>(panel) * tasks.units * P::kRecord;

  float acc[Tiles][4] = {};
  Raw<T> next;
  if (slice < tasks.units)
    next.template load<false>(records + static_cast<int64_t>(slice) * P::kRecord, lane);
  wait_for_inputs();  // the weights are nobody's output and were asked for before
  for (int unit = slice; unit < tasks.units; unit += kSlices) {
    const Raw<T> raw = next;
    if (unit + kSlices < tasks.units)
      next.template load<false>(records + static_cast<int64_t>(unit + kSlices) * P::kRecord, lane);
    add_unit<T, Tiles>(raw, unit_rows<T>(x, unit, first_row), lane, acc);
  }
#pragma unroll
  for (int tile = 0; tile < Tiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      partial[slice][tile * 8 + 2 * (lane % 4) + i % 2][lane / 4 + 8 * (i / 2)] = acc[tile][i];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < 16 * kRows; i += 32 * kSlices) {
    const int row = i / 16, output = panel * 16 + i % 16;
    if (first_row + row >= x.rows || output >= task.outputs) continue;
    const auto at = [&](int slice) { return partial[slice][row][i % 16]; };
    float sum = ((at(0) + at(1)) + (at(2) + at(3))) + ((at(4) + at(5)) + (at(6) + at(7)));
    if (task.bias != nullptr) sum += task.bias[output];
    task.out[(first_row + row) * task.stride + output] = sum;
  }
}

template <DType T, int Tiles>
void launch_linear(const QuantizedRows& x, const MatrixTasks& tasks, cudaStream_t stream) {
  const dim3 grid(tasks.panels, (x.rows + 8 * Tiles - 1) / (8 * Tiles));
  launch("linear_quantized_kernel", linear_quantized_kernel<T, Tiles>, grid, 32 * kSlices,
         sizeof(Partial<Tiles>), stream, x, tasks);
}

template <DType T>
void linear_of(const QuantizedRows& x, const MatrixTasks& tasks, cudaStream_t stream) {
  if (x.rows <= 8) return launch_linear<T, 1>(x, tasks, stream);
  constexpr bool kSuper = FileBlock<T>::kSuper;  // the types of large models get all kernels
  if (x.rows <= 16) {
    if constexpr (kSuper) {
      if (launch_tiled<T, 2>(x, tasks, stream)) return;
    }
    return launch_linear<T, 2>(x, tasks, stream);
  }
  if (x.rows <= 32) {
    if (!launch_tiled<T, 4>(x, tasks, stream)) launch_linear<T, 4>(x, tasks, stream);
    return;
  }
  if (!launch_tiled<T, 8>(x, tasks, stream)) launch_linear<T, kSuper ? 8 : 4>(x, tasks, stream);
}

// One thread per lane of a record: grid.x = records, 32 * chunks threads. Runs once, at load.
template <DType T>
__global__ void pack_kernel(const uint8_t* file, int32_t outputs, int32_t inputs, int32_t units,
                            std::byte* packed) {
  begin_kernel();
  using P = Packed<T>;
  using File = FileBlock<T>;
  const int64_t record = blockIdx.x;
  const int panel = record / units, unit = record % units;
  const int chunk = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t row_bytes = static_cast<int64_t>(inputs) / File::kElements * File::kBytes;
  const auto block_at = [&](int output, int input) -> const uint8_t* {
    const int64_t row = panel * 16 + output;
    const int column = unit * P::kUnit + input;
    if (row >= outputs || column >= inputs) return nullptr;
    return file + row * row_bytes + static_cast<int64_t>(column / File::kElements) * File::kBytes;
  };
  uint32_t low[P::kLowWords], high[P::kHighWords + 1];
  const auto code = [&](int output, int input) -> uint32_t {
    const uint8_t* block = block_at(output, chunk * 64 + input);
    return block == nullptr ? 0 : File::code(block, (chunk * 64 + input) % File::kElements);
  };
  P::pack_lane(lane, code, low, high);
  std::byte* out = packed + record * P::kRecord;
  auto* low_out = reinterpret_cast<uint32_t*>(out) + threadIdx.x * P::kLowWords;
  for (int i = 0; i < P::kLowWords; ++i) low_out[i] = low[i];
  auto* high_out = reinterpret_cast<uint32_t*>(out + P::kHigh) + threadIdx.x * P::kHighWords;
  for (int i = 0; i < P::kHighWords; ++i) high_out[i] = high[i];
  if (threadIdx.x >= 16) return;

  const int output = threadIdx.x;
  auto* half = reinterpret_cast<uint16_t*>(out + P::kHalf) + output * P::kHalves;
  if constexpr (File::kSuper) {
    const uint8_t* block = block_at(output, 0);
    auto* scale = reinterpret_cast<uint8_t*>(out + P::kScale) + output * 16;
    for (int i = 0; i < 16; ++i) {
      const bool minimum = File::kHasMin && i >= 8;
      scale[i] = block == nullptr ? 0
                 : minimum        ? File::minimum(block, i - 8)
                                  : File::scale(block, i);
    }
    half[0] = block == nullptr ? 0 : File::d(block);
    half[1] = block == nullptr ? 0 : File::m(block);
  } else {
    for (int i = 0; i < P::kHalves; ++i) {
      const uint8_t* block = block_at(output, i % 4 * 32);
      half[i] = block == nullptr ? 0 : i < 4 ? File::d(block) : File::m(block);
    }
  }
}

template <DType T>
void pack_of(const void* file, int32_t outputs, int32_t inputs, void* packed, cudaStream_t stream) {
  using P = Packed<T>;
  const int32_t units = round_up(inputs, P::kUnit) / P::kUnit;
  const int64_t records = static_cast<int64_t>(round_up(outputs, 16) / 16) * units;
  launch("pack_kernel", pack_kernel<T>, static_cast<unsigned>(records), 32 * P::kChunks, 0, stream,
         static_cast<const uint8_t*>(file), outputs, inputs, units,
         static_cast<std::byte*>(packed));
}

}  // namespace forerun::cuda
