#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/runtime.h"
#include "base/error.h"

// What the tests of the emulator share: a stream, and vectors on the device.
namespace forerun::emulated_test {

inline cuda::Stream& stream() {
  static auto* one = new cuda::Stream;
  return *one;
}

template <typename T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& values)
      : memory_(static_cast<int64_t>(values.size() * sizeof(T)), "a test") {
    cuda::check(cudaMemcpyAsync(memory_.data(), values.data(), values.size() * sizeof(T),
                                cudaMemcpyHostToDevice, stream().get()),
                "upload");
  }
  T* data() const { return reinterpret_cast<T*>(memory_.data()); }
  std::vector<T> values() const {
    std::vector<T> out(static_cast<size_t>(memory_.bytes()) / sizeof(T));
    cuda::check(cudaMemcpyAsync(out.data(), memory_.data(), out.size() * sizeof(T),
                                cudaMemcpyDeviceToHost, stream().get()),
                "download");
    return out;
  }

 private:
  cuda::DeviceMemory memory_;
};

template <typename... Parameters, typename... Arguments>
void run(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared,
         Arguments&&... arguments) {
  cuda::launch("a test", kernel, grid, block, shared, stream().get(),
               std::forward<Arguments>(arguments)...);
}

inline void finish() { stream().wait(); }

}  // namespace forerun::emulated_test
