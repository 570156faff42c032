#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/test_data.h"

namespace forerun::cuda_test {

// A tensor in the memory of a back end.
struct Rows {
  Rows(Backend& on, const std::vector<float>& values, int64_t rows) : backend(&on) {
    buffer = on.allocate(static_cast<int64_t>(values.size() * sizeof(float)));
    on.upload(buffer.data(), values.data(), buffer.bytes());
    tensor = Tensor(buffer.floats(), static_cast<int32_t>(rows),
                    static_cast<int32_t>(static_cast<int64_t>(values.size()) / rows));
  }
  Rows(Backend& on, int64_t rows, int64_t cols)  // full of NaN, so that an unwritten value shows
      : Rows(on, std::vector<float>(static_cast<size_t>(rows * cols), __builtin_nanf("")), rows) {}

  std::vector<float> values() const {
    std::vector<float> out(static_cast<size_t>(int64_t{tensor.rows} * tensor.cols));
    backend->download(out.data(), tensor.data, static_cast<int64_t>(out.size() * sizeof(float)));
    return out;
  }

  Backend* backend;
  Buffer buffer;
  Tensor tensor;
};

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// |a - b| / |b| over whole vectors; NaN never passes a comparison with it.
inline double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0.0, norm = 0.0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    norm += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(difference) / std::sqrt(norm);
}

// A GPU emulated on the CPU (tests/cpp/cuda_emulator): thousands of times slower, and full with two
// blocks of threads, so that its shapes are smaller.
inline bool emulated() { return cuda_status().text.find("emulated") != std::string::npos; }

// Both back ends; the tests are skipped where there is no GPU.
class Cuda : public testing::Test {
 protected:
  void SetUp() override {
    const CudaStatus status = cuda_status();
    if (!status.available) GTEST_SKIP() << "no GPU: " << status.text;
    if (gpu_ == nullptr) gpu_ = make_cuda_backend(0);
    if (cpu_ == nullptr) cpu_ = make_cpu_backend(2);
  }
  Backend& gpu() { return *gpu_; }
  Backend& cpu() { return *cpu_; }

 private:
  static inline std::shared_ptr<Backend> gpu_, cpu_;
};

}  // namespace forerun::cuda_test
