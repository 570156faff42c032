#pragma once

#include <cuda_fp16.h>

#include "backend/cuda/launch.h"
#include "backend/cuda/mma.cuh"
#include "backend/cuda/packed_layout.h"

namespace forerun::cuda {

// The order of a quantised product. Integers inside a unit are exact. The units of an output go to
// 8 slices, unit u to slice u % 8; a slice is one fma chain in unit order; the slices are added as
// a balanced tree, ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7)). All of it depends on the
// inputs and the type alone, never on the rows: every kernel below gives the same bits for a row.
constexpr int kSlices = 8;

// What a lane holds of one record, loaded one unit ahead of its use.
template <DType T>
struct Raw {
  using P = Packed<T>;
  uint4 low[P::kChunks * P::kLowWords / 4];
  uint32_t high[P::kChunks * P::kHighWords + (P::kHighWords == 0)];
  uint4 scale[2];  // of outputs g and g + 8
  uint32_t half[2][P::kHalves / 2];

  // Shared: the record was copied to shared memory.
  template <bool Shared>
  __device__ __forceinline__ void load(const std::byte* record, int lane) {
#pragma unroll
    for (int i = 0; i < P::kChunks * P::kLowWords / 4; ++i) {
      constexpr int kVectors = P::kLowWords / 4;
      const std::byte* at =
          record + (i / kVectors * 32 + lane) * (4 * P::kLowWords) + i % kVectors * 16;
      low[i] = Shared ? *reinterpret_cast<const uint4*>(at) : load_streaming(at);
    }
    if constexpr (P::kHighWords > 0) {
#pragma unroll
      for (int i = 0; i < P::kChunks; ++i) {
        const std::byte* at = record + P::kHigh + (i * 32 + lane) * (4 * P::kHighWords);
        if constexpr (P::kHighWords == 1) {
          high[i] = *reinterpret_cast<const uint32_t*>(at);
        } else {
          const uint2 pair = *reinterpret_cast<const uint2*>(at);
          high[2 * i] = pair.x;
          high[2 * i + 1] = pair.y;
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int output = lane / 4 + 8 * r;
      if constexpr (P::File::kSuper)
        scale[r] = *reinterpret_cast<const uint4*>(record + P::kScale + output * 16);
      const std::byte* at = record + P::kHalf + output * 2 * P::kHalves;
      if constexpr (P::kHalves == 2) {
        half[r][0] = *reinterpret_cast<const uint32_t*>(at);
      } else if constexpr (P::kHalves == 4) {
        const uint2 v = *reinterpret_cast<const uint2*>(at);
        half[r][0] = v.x, half[r][1] = v.y;
      } else {
        const uint4 v = *reinterpret_cast<const uint4*>(at);
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
// Sign-extended; K types' 6 bits are positive. The top bit of a selector's nibble repeats the sign.
__device__ __forceinline__ int32_t byte_of(const uint4& v, int i) {
  return static_cast<int32_t>(permute_bytes(word_of(v, i / 4), 0, 0x8880 + i % 4 * 0x1111));
}

// The activations of one unit and some rows, in global or shared memory; `stride` rows lie between
// chunks and groups.
struct UnitRows {
  const std::byte* codes;
  const float* scale;
  const int16_t* sums;
  int stride;
  int rows;  // past these the codes are taken as 0
};

// Applies the scales to the integer sums of one unit of a K type; column: the first of the lane's
// two rows.
template <DType T>
__device__ __forceinline__ void finish_super(const Raw<T>& raw, const int32_t (&sum)[4],
                                             const UnitRows& x, int column, float (&acc)[4]) {
  const float2 d = *reinterpret_cast<const float2*>(x.scale + column);
  constexpr float kInverse = 1.0F / Packed<T>::File::kFactor;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float scale = raw.half_at(i / 2, 0) * kInverse * (i % 2 == 0 ? d.x : d.y);
    acc[i] = fmaf(scale, static_cast<float>(sum[i]), acc[i]);
  }
  if constexpr (Packed<T>::File::kHasMin) {
    const uint4 sums[2] = {reinterpret_cast<const uint4*>(x.sums)[column],
                           reinterpret_cast<const uint4*>(x.sums)[column + 1]};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int32_t minimum = 0;
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        const auto two_sums = static_cast<int32_t>(word_of(sums[i % 2], pair));
        const auto minima = static_cast<int32_t>(word_of(raw.scale[i / 2], 2 + pair / 2));
        minimum = pair % 2 == 0 ? __dp2a_lo(two_sums, minima, minimum)
                                : __dp2a_hi(two_sums, minima, minimum);
      }
      const float scale = raw.half_at(i / 2, 1) * (i % 2 == 0 ? d.x : d.y);
      acc[i] = fmaf(-scale, static_cast<float>(minimum), acc[i]);
    }
  }
}

// Adds one unit to the accumulators of 16 outputs x 8 rows; b: the lane's activations of each
// chunk.
template <DType T>
__device__ __forceinline__ void add_super(const Raw<T>& raw,
                                          const uint32_t (&a)[2 * Packed<T>::kChunks][4],
                                          const uint4 (&b)[Packed<T>::kChunks], const UnitRows& x,
                                          int column, float (&acc)[4]) {
  int32_t sum[4] = {0, 0, 0, 0};
#pragma unroll
  for (int group = 0; group < 8; ++group) {
    const uint4& v = b[group / 2];
    const uint32_t b0 = group % 2 == 0 ? v.x : v.z, b1 = group % 2 == 0 ? v.y : v.w;
    if constexpr (T == DType::kQ6_K) {
      const Tile low = mma_16(a[group][0], a[group][1], b0),
                 high = mma_16(a[group][2], a[group][3], b1);
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
  finish_super<T>(raw, sum, x, column, acc);
}

template <DType T>
__device__ __forceinline__ void add_blocks(const Raw<T>& raw,
                                           const uint32_t (&a)[2 * Packed<T>::kChunks][4],
                                           const uint4 (&b)[Packed<T>::kChunks], const UnitRows& x,
                                           int column, float (&acc)[4]) {
  constexpr int kGroups = 2 * Packed<T>::kChunks;
  constexpr float kInverse = 1.0F / Packed<T>::File::kFactor;
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    const uint4& v = b[group / 2];
    const Tile dot = group % 2 == 0 ? mma_32(a[group], v.x, v.y) : mma_32(a[group], v.z, v.w);
    const float* at = x.scale + 2 * (group * x.stride + column);
    const float4 d = *reinterpret_cast<const float4*>(at);  // d, d * sum of two rows
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

// acc += unit of a panel, for Tiles tiles of 8 rows.
template <DType T, int Tiles>
__device__ __forceinline__ void add_unit(const Raw<T>& raw, const UnitRows& x, int lane,
                                         float (&acc)[Tiles][4]) {
  using P = Packed<T>;
  uint32_t a[2 * P::kChunks][4];
#pragma unroll
  for (int group = 0; group < 2 * P::kChunks; ++group) raw.operand(group / 2, group % 2, a[group]);
#pragma unroll
  for (int tile = 0; tile < Tiles; ++tile) {
    const int row = tile * 8 + lane / 4;
    uint4 b[P::kChunks];
#pragma unroll
    for (int chunk = 0; chunk < P::kChunks; ++chunk) {
      const std::byte* at = x.codes + (chunk * x.stride + row) * 64 + lane % 4 * 16;
      b[chunk] = row < x.rows ? *reinterpret_cast<const uint4*>(at) : uint4{};
    }
    const int column = tile * 8 + 2 * (lane % 4);
    if constexpr (P::File::kSuper) {
      add_super<T>(raw, a, b, x, column, acc[tile]);
    } else {
      add_blocks<T>(raw, a, b, x, column, acc[tile]);
    }
  }
}

// Rows from first_row on, of one unit, as quantize_rows left them.
template <DType T>
__device__ __forceinline__ UnitRows unit_rows(const QuantizedRows& x, int unit, int first_row) {
  using P = Packed<T>;
  const int64_t groups = P::File::kSuper ? 1 : 2 * P::kChunks;
  const int64_t at = unit * groups * x.padded + first_row;
  return {x.codes + (static_cast<int64_t>(unit) * P::kChunks * x.padded + first_row) * 64,
          x.scale + (P::File::kSuper ? at : 2 * at), x.sums + 8 * at, x.padded, x.rows - first_row};
}

__device__ __forceinline__ const MatrixTask& task_of(const MatrixTasks& tasks, int panel) {
  int index = 0;
  while (index + 1 < tasks.count && panel >= tasks.task[index + 1].first_panel) ++index;
  return tasks.task[index];
}

}  // namespace forerun::cuda
