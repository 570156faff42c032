// What libforerun_cuda.so offers to backend/cuda_loader.cpp. No exception leaves these functions.
#include <algorithm>
#include <cstring>
#include <exception>
#include <string>

#include "backend/cuda/cuda_backend.h"
#include "base/error.h"

namespace {

void write(const std::string& from, char* text, size_t size) {
  if (size == 0) return;
  const size_t length = std::min(from.size(), size - 1);
  std::memcpy(text, from.data(), length);
  text[length] = '\0';
}

}  // namespace

// A new back end, or nullptr with the reason in `error`.
extern "C" FORERUN_API forerun::Backend* forerun_cuda_make_backend(int device, char* error,
                                                                   size_t size) {
  try {
    return std::make_unique<forerun::cuda::CudaBackend>(device).release();
  } catch (const std::exception& failure) {
    write(failure.what(), error, size);
  }
  return nullptr;
}

// 1 when there is a usable GPU; `text` names it or says why there is none.
extern "C" FORERUN_API int forerun_cuda_status(char* text, size_t size) {
  try {
    int count = 0;
    forerun::cuda::check(cudaGetDeviceCount(&count), "look for a GPU");
    if (count == 0) {
      write("the driver shows no GPU", text, size);
      return 0;
    }
    cudaDeviceProp properties{};
    forerun::cuda::check(cudaGetDeviceProperties(&properties, 0), "read the device's properties");
    const bool known = properties.major > 7 || (properties.major == 7 && properties.minor >= 5);
    std::string found = std::string(properties.name) + ", compute capability " +
                        std::to_string(properties.major) + "." + std::to_string(properties.minor);
    if (count > 1) found += " (first of " + std::to_string(count) + ")";
    if (!known) found += ": older than 7.5, not supported";
    write(found, text, size);
    return known ? 1 : 0;
  } catch (const std::exception& failure) {
    write(failure.what(), text, size);
  }
  return 0;
}
