#pragma once

#include "backend/tensor.h"

namespace forerun {

// Columns [begin, begin + cols) of a tensor.
inline Tensor columns(const Tensor& tensor, int32_t begin, int32_t cols) {
  Tensor view = tensor;
  view.data += begin;
  view.cols = cols;
  return view;
}

// Row `first` and every `step`-th after it.
inline Tensor every(const Tensor& tensor, int32_t step, int32_t first) {
  Tensor view = tensor;
  view.data += first * tensor.stride;
  view.rows = tensor.rows / step;
  view.stride *= step;
  return view;
}

}  // namespace forerun
