#pragma once

#include <cuda_fp16.h>

#include "backend/cuda/launch.h"
#include "backend/cuda/mma.cuh"
#include "backend/cuda/packed_layout.h"
#include "backend/cuda/runtime.h"

namespace forerun::cuda {

// The order of a quantised product. Integers inside a unit are exact. The units of an output go to 8 slices, unit u
// to slice u % 8; a slice is one fma chain in unit order; the slices are added as ((s0+s1) + (s2+s3)) + (s4+s5) +
// (s6+s7), left to right. All of it depends on the inputs and the type alone, never on the rows: every kernel below
// gives the same bits for a row.
constexpr int kSlices = 8;

// What a lane holds of one record, loaded one unit ahead of its use.
template <DType T>
struct Raw {
  using P = Packed<T>;
  uint4 low[P::kChunks * P::kLowWords / 4];
  uint32_t high[P::kChunks * P::kHighWords + (P::kHighWords == 0)];
  uint4 scale[2];                   // of outputs g and g + 8
  uint32_t half[2][P::kHalves / 2];

  __device__ __forceinline__ void load(const std::byte* record, int lane) {
#pragma unroll
    for (int i = 0; i < P::kChunks * P::kLowWords / 4; ++i) {
      constexpr int kVectors = P::kLowWords / 4;
      low[i] = load_streaming(record + (i / kVectors * 32 + lane) * (4 * P::kLowWords) + i % kVectors * 16);
    }
    if constexpr (P::kHighWords > 0) {
#pragma unroll
      for (int i = 0; i < P::kChunks; ++i) {
        const std::byte* at = record + P::kHigh + (i * 32 + lane) * (4 * P::kHighWords);
        if constexpr (P::kHighWords == 1) {
          high[i] = __ldg(reinterpret_cast<const uint32_t*>(at));
        } else {
          const uint2 pair = __ldg(reinterpret_cast<const uint2*>(at));
          high[2 * i] = pair.x;
          high[2 * i + 1] = pair.y;
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int output = lane / 4 + 8 * r;
      if constexpr (P::File::kSuper) scale[r] = __ldg(reinterpret_cast<const uint4*>(record + P::kScale + output * 16));
      const std::byte* at = record + P::kHalf + output * 2 * P::kHalves;
      if constexpr (P::kHalves == 2) {
        half[r][0] = __ldg(reinterpret_cast<const uint32_t*>(at));
      } else if constexpr (P::kHalves == 4) {
        const uint2 v = __ldg(reinterpret_cast<const uint2*>(at));
        half[r][0] = v.x, half[r][1] = v.y;
      } else {
        const uint4 v = __ldg(reinterpret_cast<const uint4*>(at));
        half[r][0] = v.x, half[r][1] = v.y, half[r][2] = v.z, half[r][3] = v.w;
      }
    }
  }

  // A operand of group 2 * chunk + group.
  __device__ __forceinline__ void operand(int chunk, int group, uint32_t (&a)[4]) const {
    uint32_t words[8];
#pragma unroll
    for (int i = 0; i < P::kLowWords / 4; ++i) {
      const uint4 v = low[chunk * (P::kLowWords / 4) + i];
      words[4 * i] = v.x, words[4 * i + 1] = v.y, words[4 * i + 2] = v.z, words[4 * i + 3] = v.w;
    }
    P::unpack_lane(words, high + chunk * P::kHighWords, group, a);
  }

  __device__ __forceinline__ float half_at(int r, int index) const {
    const uint32_t bits = half[r][index / 2] >> (16 * (index % 2));
    return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
  }
};

__device__ __forceinline__ uint32_t word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}
__device__ __forceinline__ int32_t byte_of(const uint4& v, int i) {  // sign-extended; K types' 6 bits are positive
  return static_cast<int32_t>(word_of(v, i / 4) << (24 - i % 4 * 8)) >> 24;
}

// Adds one unit to the accumulators of 16 outputs x 8 rows; b: the lane's activations of each chunk.
template <DType T>
__device__ __forceinline__ void add_super(const Raw<T>& raw, const uint32_t (&a)[2 * Packed<T>::kChunks][4],
                                          const uint4 (&b)[Packed<T>::kChunks], const QuantizedRows& x, int unit,
                                          int column, float (&acc)[4]) {
  int32_t sum[4] = {0, 0, 0, 0};
#pragma unroll
  for (int group = 0; group < 8; ++group) {
    const uint4& v = b[group / 2];
    const uint32_t b0 = group % 2 == 0 ? v.x : v.z, b1 = group % 2 == 0 ? v.y : v.w;
    if constexpr (T == DType::kQ6_K) {
      const Tile low = mma_16(a[group][0], a[group][1], b0), high = mma_16(a[group][2], a[group][3], b1);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sum[i] += low.v[i] * byte_of(raw.scale[i / 2], 2 * group);
        sum[i] += high.v[i] * byte_of(raw.scale[i / 2], 2 * group + 1);
      }
    } else {
      const Tile dot = mma_32(a[group], b0, b1);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] += dot.v[i] * byte_of(raw.scale[i / 2], group);
    }
  }
  const int64_t first = static_cast<int64_t>(unit) * x.padded + column;  // column: the lane's first of two
  const float2 d = __ldg(reinterpret_cast<const float2*>(x.scale + first));
  constexpr float kInverse = 1.0F / Packed<T>::File::kFactor;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float scale = raw.half_at(i / 2, 0) * kInverse * (i % 2 == 0 ? d.x : d.y);
    acc[i] = fmaf(scale, static_cast<float>(sum[i]), acc[i]);
  }
  if constexpr (Packed<T>::File::kHasMin) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint4 s = __ldg(reinterpret_cast<const uint4*>(x.sums) + first + i % 2);
      int32_t minimum = 0;
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        const auto two_sums = static_cast<int32_t>(word_of(s, pair));
        const auto minima = static_cast<int32_t>(word_of(raw.scale[i / 2], 2 + pair / 2));
        minimum = pair % 2 == 0 ? __dp2a_lo(two_sums, minima, minimum) : __dp2a_hi(two_sums, minima, minimum);
      }
      const float scale = raw.half_at(i / 2, 1) * (i % 2 == 0 ? d.x : d.y);
      acc[i] = fmaf(-scale, static_cast<float>(minimum), acc[i]);
    }
  }
}

template <DType T>
__device__ __forceinline__ void add_blocks(const Raw<T>& raw, const uint32_t (&a)[2 * Packed<T>::kChunks][4],
                                           const uint4 (&b)[Packed<T>::kChunks], const QuantizedRows& x, int unit,
                                           int column, float (&acc)[4]) {
  constexpr int kGroups = 2 * Packed<T>::kChunks;
  constexpr float kInverse = 1.0F / Packed<T>::File::kFactor;
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    const uint4& v = b[group / 2];
    const Tile dot = group % 2 == 0 ? mma_32(a[group], v.x, v.y) : mma_32(a[group], v.z, v.w);
    const int64_t first = (static_cast<int64_t>(unit) * kGroups + group) * x.padded + column;
    const float4 d = __ldg(reinterpret_cast<const float4*>(x.scale) + first / 2);  // d, d * sum of two rows
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float scale = raw.half_at(i / 2, group) * kInverse * (i % 2 == 0 ? d.x : d.z);
      acc[i] = fmaf(scale, static_cast<float>(dot.v[i]), acc[i]);
      if constexpr (Packed<T>::File::kHasMin) {
        acc[i] = fmaf(raw.half_at(i / 2, kGroups + group), i % 2 == 0 ? d.y : d.w, acc[i]);
      }
    }
  }
}

// acc += unit of a panel, for `Tiles` tiles of 8 rows from `first_row` on.
template <DType T, int Tiles>
__device__ __forceinline__ void add_unit(const Raw<T>& raw, const QuantizedRows& x, int unit, int first_row, int lane,
                                         float (&acc)[Tiles][4]) {
  using P = Packed<T>;
  uint32_t a[2 * P::kChunks][4];
#pragma unroll
  for (int group = 0; group < 2 * P::kChunks; ++group) raw.operand(group / 2, group % 2, a[group]);
#pragma unroll
  for (int tile = 0; tile < Tiles; ++tile) {
    const int row = first_row + tile * 8 + lane / 4;
    uint4 b[P::kChunks];
#pragma unroll
    for (int chunk = 0; chunk < P::kChunks; ++chunk) {
      const int64_t at = (static_cast<int64_t>(unit) * P::kChunks + chunk) * x.padded + row;
      b[chunk] = row < x.rows ? __ldg(reinterpret_cast<const uint4*>(x.codes + at * 64) + lane % 4) : uint4{};
    }
    const int column = first_row + tile * 8 + 2 * (lane % 4);
    if constexpr (P::File::kSuper) {
      add_super<T>(raw, a, b, x, unit, column, acc[tile]);
    } else {
      add_blocks<T>(raw, a, b, x, unit, column, acc[tile]);
    }
  }
}

__device__ __forceinline__ const MatrixTask& task_of(const MatrixTasks& tasks, int panel) {
  int index = 0;
  while (index + 1 < tasks.count && panel >= tasks.task[index + 1].first_panel) ++index;
  return tasks.task[index];
}

// out[row][output] for 16 outputs x 8 * Tiles rows per block: grid.x = panels of all tasks, grid.y = row tiles.
// 8 warps, one per slice; the slices meet in shared memory. Reads each weight once per grid.y; bound by memory
// bandwidth while the rows are few.
template <DType T, int Tiles>
__global__ void __launch_bounds__(32 * kSlices, Tiles <= 2 ? 2 : 1)
    linear_quantized_kernel(const __grid_constant__ QuantizedRows x, const __grid_constant__ MatrixTasks tasks) {
  using P = Packed<T>;
  constexpr int kRows = 8 * Tiles;
  __shared__ float partial[kSlices][kRows][17];
  const int lane = threadIdx.x % 32, slice = threadIdx.x / 32;
  const MatrixTask& task = task_of(tasks, blockIdx.x);
  const int panel = blockIdx.x - task.first_panel;
  const int first_row = blockIdx.y * kRows;
  const std::byte* records = task.data + static_cast<int64_t>(panel) * tasks.units * P::kRecord;

  float acc[Tiles][4] = {};
  Raw<T> next;
  if (slice < tasks.units) next.load(records + static_cast<int64_t>(slice) * P::kRecord, lane);
  for (int unit = slice; unit < tasks.units; unit += kSlices) {
    const Raw<T> raw = next;
    if (unit + kSlices < tasks.units) next.load(records + static_cast<int64_t>(unit + kSlices) * P::kRecord, lane);
    add_unit<T, Tiles>(raw, x, unit, first_row, lane, acc);
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
    float sum = partial[0][row][i % 16] + partial[1][row][i % 16];
#pragma unroll
    for (int s = 2; s < kSlices; s += 2) sum += partial[s][row][i % 16] + partial[s + 1][row][i % 16];
    if (task.bias != nullptr) sum += task.bias[output];
    task.out[(first_row + row) * task.stride + output] = sum;
  }
}

template <DType T, int Tiles>
void launch_linear(const QuantizedRows& x, const MatrixTasks& tasks, cudaStream_t stream) {
  const dim3 grid(tasks.panels, (x.rows + 8 * Tiles - 1) / (8 * Tiles));
  linear_quantized_kernel<T, Tiles><<<grid, 32 * kSlices, 0, stream>>>(x, tasks);
  check_launch("linear_quantized_kernel");
}

template <DType T>
void linear_of(const QuantizedRows& x, const MatrixTasks& tasks, cudaStream_t stream) {
  if (x.rows <= 8) return launch_linear<T, 1>(x, tasks, stream);
  if (x.rows <= 16) return launch_linear<T, 2>(x, tasks, stream);
  if (x.rows <= 32) return launch_linear<T, 4>(x, tasks, stream);
  return launch_linear<T, 8>(x, tasks, stream);
}

// One thread per lane of a record: grid.x = records, 32 * chunks threads. Runs once, at load.
template <DType T>
__global__ void pack_kernel(const uint8_t* file, int32_t outputs, int32_t inputs, int32_t units, std::byte* packed) {
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
      scale[i] = block == nullptr ? 0 : minimum ? File::minimum(block, i - 8) : File::scale(block, i);
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
  pack_kernel<T><<<static_cast<unsigned>(records), 32 * P::kChunks, 0, stream>>>(
      static_cast<const uint8_t*>(file), outputs, inputs, units, static_cast<std::byte*>(packed));
  check_launch("pack_kernel");
}

}  // namespace forerun::cuda
