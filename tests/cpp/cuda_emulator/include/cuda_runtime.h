#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <tuple>
#include <utility>

#include "cuda_emulator/block.h"
#include "cuda_emulator/report.h"
#include "cuda_runtime_api.h"

// What nvcc knows by itself: the words of the language, the vector types, the functions of device
// code (CUDA C++ Programming Guide).
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__

struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline unsigned min(unsigned a, int b) { return min(a, static_cast<unsigned>(b)); }
inline unsigned min(int a, unsigned b) { return min(static_cast<unsigned>(a), b); }

inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline float __uint_as_float(unsigned bits) { return __int_as_float(static_cast<int>(bits)); }

template <typename T>
T __ldg(const T* at) {
  return *at;
}

// c + two signed 16-bit values of a times two signed bytes of b.
inline int __dp2a_lo(int a, int b, int c) {
  return c + static_cast<int16_t>(a) * static_cast<int8_t>(b) +
         (a >> 16) * static_cast<int8_t>(b >> 8);
}
inline int __dp2a_hi(int a, int b, int c) { return __dp2a_lo(a, b >> 16, c); }

inline void __syncthreads() { forerun::emulated::block_barrier(); }
inline void __syncwarp(unsigned mask = ~0U) {
  forerun::emulated::warp_operation<int>("__syncwarp", mask, 0, [](const int*, int*) {});
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int source) {
  struct Given {
    T value;
    int source;
  };
  return forerun::emulated::warp_operation<T>(
      "__shfl_sync", mask, Given{value, source}, [mask](const Given* all, T* out) {
        for (int lane = 0; lane < 32; ++lane) {
          if ((mask >> lane & 1U) == 0) continue;
          const int from = all[lane].source & 31;
          if ((mask >> from & 1U) == 0) forerun::emulated::fault("a shuffle from an absent lane");
          out[lane] = all[from].value;
        }
      });
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  return __shfl_sync(mask, value, forerun::emulated::running.lane->lane ^ lanes);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, int lanes) {
  const int own = forerun::emulated::running.lane->lane;
  return __shfl_sync(mask, value, own + lanes < 32 ? own + lanes : own);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return forerun::emulated::warp_operation<unsigned>(
      "__ballot_sync", mask, predicate, [mask](const int* all, unsigned* out) {
        unsigned votes = 0;
        for (int lane = 0; lane < 32; ++lane) {
          if ((mask >> lane & 1U) != 0 && all[lane] != 0) votes |= 1U << lane;
        }
        for (int lane = 0; lane < 32; ++lane) out[lane] = votes;
      });
}

// One thread runs at a time, so any read and write is whole.
template <typename T>
T atomicAdd(T* at, T value) {
  return std::exchange(*at, *at + value);
}
template <typename T>
T atomicMax(T* at, T value) {
  return std::exchange(*at, *at < value ? value : *at);
}
inline void __threadfence() {}

inline void cudaTriggerProgrammaticLaunchCompletion() {}
inline void cudaGridDependencySynchronize() { forerun::emulated::running.waited_for_inputs = true; }

namespace forerun::emulated {
cudaError_t submit(const cudaLaunchConfig_t& config, const void* kernel, const char* signature,
                   std::function<void()> body);
cudaError_t set_shared_limit(const void* kernel, int bytes);
}  // namespace forerun::emulated

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  return forerun::emulated::submit(
      *config, reinterpret_cast<const void*>(kernel), __PRETTY_FUNCTION__,
      [kernel, given = std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)] {
        std::apply(kernel, given);
      });
}

template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute, int bytes) {
  return forerun::emulated::set_shared_limit(reinterpret_cast<const void*>(kernel), bytes);
}
