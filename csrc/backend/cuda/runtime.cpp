#include "backend/cuda/runtime.h"

#include <string>

#include "base/error.h"

namespace forerun::cuda {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // a sticky error stays, any other is taken off
  throw Error(ErrorKind::kDevice, std::string("cuda: ") + what + ": " + cudaGetErrorString(status) +
                                      " (" + cudaGetErrorName(status) + ")");
}

bool early_launch() {
  static const bool answer = [] {
    int device = 0;
    int major = 0;
    check(cudaGetDevice(&device), "ask for the device");
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
          "ask for the compute capability");
    return major >= 9;
  }();
  return answer;
}

std::byte* allocate_device(int64_t bytes, const char* purpose) {
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, static_cast<size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t left = 0;
    size_t total = 0;
    check(cudaMemGetInfo(&left, &total), "ask for the free memory");
    throw Error(ErrorKind::kOutOfMemory, std::string("cuda: ") + purpose + " needs " +
                                             std::to_string(bytes) + " bytes of device memory; " +
                                             std::to_string(left) + " of " + std::to_string(total) +
                                             " are free");
  }
  check(status, "allocate");
  // The legacy stream's memset is not ordered with ours, so it is waited for; allocation is not
  // part of a step.
  const cudaError_t cleared = cudaMemset(data, 0, static_cast<size_t>(bytes));
  const cudaError_t waited =
      cleared == cudaSuccess ? cudaStreamSynchronize(cudaStreamLegacy) : cleared;
  if (waited != cudaSuccess) cudaFree(data);
  check(waited, "clear new memory");
  return static_cast<std::byte*>(data);
}

DeviceMemory::DeviceMemory(int64_t bytes, const char* purpose)
    : data_(allocate_device(bytes, purpose)), bytes_(bytes) {}

PinnedMemory::PinnedMemory(int64_t bytes) : bytes_(bytes) {
  void* data = nullptr;
  check(cudaMallocHost(&data, static_cast<size_t>(bytes)), "allocate page-locked host memory");
  data_ = static_cast<std::byte*>(data);
}

}  // namespace forerun::cuda
