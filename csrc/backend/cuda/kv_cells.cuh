#pragma once

#include <cuda_fp16.h>

#include "backend/cuda/elementwise.h"
#include "backend/cuda/launch.h"

namespace forerun::cuda {

// How keys and values of one type lie in a block of 64 slots (KvLayout) and are read as floats.
// keys: Step values from d on of two slots; Contiguous: of slots `slot` and `slot + 1` of one
// block, which come together. pair: values d and d + 1 of one position.
constexpr int kSlots = KvLayout::kPageSlots;

// A key: the block that it lies in, and its column there.
struct KeyAt {
  const std::byte* block;
  int slot;
};

// The values of a position, and where there are scales its first one; the scale of the next 32
// values lies kSlots further on.
struct ValuesAt {
  const std::byte* values;
  const std::byte* scales;
};

__device__ __forceinline__ float half_at(const std::byte* at) {
  return __half2float(*reinterpret_cast<const __half*>(at));
}

template <DType T>
struct KvCells;

template <>
struct KvCells<DType::kF16> {
  static constexpr int kBytes = 2;  // of a value
  static constexpr bool kScaled = false;
  using Pair = __half2;
  template <bool Contiguous, int Step>
  static __device__ __forceinline__ void keys(KeyAt first, KeyAt second, int, int d,
                                              float2 (&key)[Step]) {
#pragma unroll
    for (int i = 0; i < Step; ++i) {
      const std::byte* at = first.block + 2 * ((d + i) * kSlots + first.slot);
      if constexpr (Contiguous) {
        key[i] = __half22float2(*reinterpret_cast<const __half2*>(at));
      } else {
        key[i] = {half_at(at), half_at(second.block + 2 * ((d + i) * kSlots + second.slot))};
      }
    }
  }
  static __device__ __forceinline__ Pair pair(ValuesAt from, int d) {
    return *reinterpret_cast<const __half2*>(from.values + 2 * d);
  }
  static __device__ __forceinline__ float2 floats(Pair pair) { return __half22float2(pair); }
};

template <>
struct KvCells<DType::kF32> {
  static constexpr int kBytes = 4;  // of a value
  static constexpr bool kScaled = false;
  using Pair = float2;
  template <bool Contiguous, int Step>
  static __device__ __forceinline__ void keys(KeyAt first, KeyAt second, int, int d,
                                              float2 (&key)[Step]) {
#pragma unroll
    for (int i = 0; i < Step; ++i) {
      const std::byte* at = first.block + 4 * ((d + i) * kSlots + first.slot);
      if constexpr (Contiguous) {
        key[i] = *reinterpret_cast<const float2*>(at);
      } else {
        const std::byte* other = second.block + 4 * ((d + i) * kSlots + second.slot);
        key[i] = {*reinterpret_cast<const float*>(at), *reinterpret_cast<const float*>(other)};
      }
    }
  }
  static __device__ __forceinline__ Pair pair(ValuesAt from, int d) {
    return *reinterpret_cast<const float2*>(from.values + 4 * d);
  }
  static __device__ __forceinline__ float2 floats(Pair pair) { return pair; }
};

// A code times its scale, rounded once: what the block stands for.
template <>
struct KvCells<DType::kQ8_0> {
  static constexpr int kBytes = 1;  // of a value
  static constexpr bool kScaled = true;
  struct Pair {
    int8_t first, second;
    __half scale;
  };
  // Four codes of one slot at a time.
  template <bool Contiguous, int Step>
  static __device__ __forceinline__ void keys(KeyAt first, KeyAt second, int head_dim, int d,
                                              float2 (&key)[Step]) {
    static_assert(Step % 4 == 0);
#pragma unroll
    for (int i = 0; i < Step; i += 4) {
      const int at = (d + i) / 4 * kSlots;
      const int scale = kSlots * head_dim + 2 * ((d + i) / KvLayout::kScaleBlock * kSlots);
      uint2 codes;
      if constexpr (Contiguous) {
        codes = *reinterpret_cast<const uint2*>(first.block + 4 * (at + first.slot));
      } else {
        codes.x = *reinterpret_cast<const uint32_t*>(first.block + 4 * (at + first.slot));
        codes.y = *reinterpret_cast<const uint32_t*>(second.block + 4 * (at + second.slot));
      }
      const float scale_x = half_at(first.block + scale + 2 * first.slot);
      const float scale_y = Contiguous ? half_at(first.block + scale + 2 * first.slot + 2)
                                       : half_at(second.block + scale + 2 * second.slot);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        key[i + j] = {scale_x * static_cast<float>(static_cast<int8_t>(codes.x >> (8 * j))),
                      scale_y * static_cast<float>(static_cast<int8_t>(codes.y >> (8 * j)))};
      }
    }
  }
  static __device__ __forceinline__ Pair pair(ValuesAt from, int d) {
    const auto codes = *reinterpret_cast<const uint16_t*>(from.values + d);
    const std::byte* scale = from.scales + 2 * (d / KvLayout::kScaleBlock * kSlots);
    return {static_cast<int8_t>(codes), static_cast<int8_t>(codes >> 8),
            *reinterpret_cast<const __half*>(scale)};
  }
  static __device__ __forceinline__ float2 floats(Pair pair) {
    const float scale = __half2float(pair.scale);
    return {scale * static_cast<float>(pair.first), scale * static_cast<float>(pair.second)};
  }
};

template <DType T>
__device__ __forceinline__ ValuesAt values_at(const std::byte* block, int head_dim, int slot) {
  constexpr int kBytes = KvCells<T>::kBytes;
  return {block + slot * head_dim * kBytes, block + kSlots * head_dim * kBytes + 2 * slot};
}

}  // namespace forerun::cuda
