#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/cpu/kernel_table.h"
#include "backend/cpu/memory.h"
#include "base/dtype.h"
#include "base/thread_pool.h"

namespace forerun {

// A product of random quantised weights and activations, to compare kernels or to time them.
class MatmulSample {
 public:
  // The first two of the panels are random, the others repeat them.
  MatmulSample(const KernelTable& kernels, DType dtype, int32_t panels, int32_t max_rows,
               ThreadPool& pool);

  void set_rows(int32_t rows);
  std::span<const float> run(MatmulKernel kernel, ThreadPool& pool);  // [rows][panels * 16]
  double seconds(MatmulKernel kernel, ThreadPool& pool);              // the best of a few
  static int64_t panel_bytes(DType dtype);

 private:
  const KernelTable& kernels_;
  bool k_type_;
  std::vector<float> x_, out_;
  PageBlock weights_, activations_;
  MatmulArgs args_;
};

}  // namespace forerun
