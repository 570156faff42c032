#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/dtype.h"

namespace forerun {

class Backend;

// Owns device memory of one back end. Move-only; frees itself.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Backend* backend, void* data, int64_t bytes)
      : backend_(backend), data_(data), bytes_(bytes) {}
  ~Buffer();
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer taken(std::move(other));
    swap(taken);
    return *this;
  }

  void* data() const { return data_; }
  float* floats() const { return static_cast<float*>(data_); }
  int64_t bytes() const { return bytes_; }
  Backend* backend() const { return backend_; }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(backend_, other.backend_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  Backend* backend_ = nullptr;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// A view of fp32 activations: `rows` rows of `cols` values, `stride` values apart. Trivially
// copyable.
struct Tensor {
  float* data = nullptr;
  int32_t rows = 0;
  int32_t cols = 0;
  int64_t stride = 0;

  Tensor() = default;
  Tensor(float* data, int32_t rows, int32_t cols)
      : data(data), rows(rows), cols(cols), stride(cols) {}
  float* row(int32_t i) const { return data + i * stride; }
  Tensor first_rows(int32_t n) const {
    Tensor view = *this;
    view.rows = n;
    return view;
  }
};

}  // namespace forerun
