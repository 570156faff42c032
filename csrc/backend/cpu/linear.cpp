#include <algorithm>
#include <string>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/float_mode.h"
#include "backend/cpu/pack.h"
#include "base/error.h"

namespace forerun {
namespace {

bool is_k_type(DType dtype) {
  return dtype == DType::kQ4_K || dtype == DType::kQ5_K || dtype == DType::kQ6_K;
}

const CpuWeight& weight_of(const LinearTask& task) {
  return static_cast<const CpuWeight&>(*task.weight);
}

void check(const Tensor& x, std::span<const LinearTask> tasks) {
  for (const LinearTask& task : tasks) {
    if (task.weight->cols != x.cols || task.weight->rows != task.out.cols ||
        task.out.rows != x.rows) {
      throw Error(ErrorKind::kBadArgument,
                  "linear: x is " + std::to_string(x.rows) + " x " + std::to_string(x.cols) +
                      ", weight " + std::to_string(task.weight->rows) + " x " +
                      std::to_string(task.weight->cols) + ", out " + std::to_string(task.out.rows) +
                      " x " + std::to_string(task.out.cols));
    }
  }
}

}  // namespace

MatmulKernel CpuBackend::kernel_of(DType dtype) const {
  switch (dtype) {
    case DType::kF32:
      return kernels_.f32;
    case DType::kF16:
      return kernels_.f16;
    case DType::kBF16:
      return kernels_.bf16;
    case DType::kQ4_0:
      return kernels_.q4_0;
    case DType::kQ4_1:
      return kernels_.q4_1;
    case DType::kQ5_0:
      return kernels_.q5_0;
    case DType::kQ5_1:
      return kernels_.q5_1;
    case DType::kQ8_0:
      return kernels_.q8_0;
    case DType::kQ4_K:
      return kernels_.q4_k;
    case DType::kQ5_K:
      return kernels_.q5_k;
    case DType::kQ6_K:
      return kernels_.q6_k;
    default:
      break;
  }
  throw Error(ErrorKind::kUnsupported,
              "linear: no kernel for " + std::string(dtype_info(dtype).name));
}

void CpuBackend::quantize(Tensor x, bool k_types, bool legacy_types) {
  const int64_t rows = x.rows;
  if (k_types) {
    const int32_t blocks = x.cols / 256;
    ensure(activation_k_, rows * blocks * static_cast<int64_t>(sizeof(ActivationK)));
    auto* out = reinterpret_cast<ActivationK*>(activation_k_.data());
    each_row(x.rows, x.cols, [&](int64_t row) {
      kernels_.quantize_k(x.row(static_cast<int32_t>(row)), blocks, out + row, rows);
    });
  }
  if (legacy_types) {
    const int32_t blocks = x.cols / 32;
    ensure(activation_32_, rows * blocks * static_cast<int64_t>(sizeof(Activation32)));
    auto* out = reinterpret_cast<Activation32*>(activation_32_.data());
    each_row(x.rows, x.cols, [&](int64_t row) {
      kernels_.quantize_32(x.row(static_cast<int32_t>(row)), blocks, out + row, rows);
    });
  }
}

// One region over the panels of all tasks. A panel goes through all rows while it is in the cache.
void CpuBackend::linear(Tensor x, std::span<const LinearTask> tasks) {
  const FloatMode mode;
  check(x, tasks);
  if (x.rows == 0) return;
  bool k_types = false;
  bool legacy_types = false;
  int64_t panels = 0;
  for (const LinearTask& task : tasks) {
    k_types |= is_k_type(task.weight->dtype);
    legacy_types |= is_quantized(task.weight->dtype) && !is_k_type(task.weight->dtype);
    panels += weight_of(task).panels;
  }
  quantize(x, k_types, legacy_types);
  const int64_t grain = std::clamp<int64_t>(panels / (int64_t{pool_.size()} * 8), 1, 64);
  pool_.parallel_for(panels, grain, [&](int64_t index) {
    const LinearTask* task = tasks.data();
    int64_t panel = index;
    while (panel >= weight_of(*task).panels) panel -= weight_of(*task++).panels;
    const CpuWeight& weight = weight_of(*task);
    const int64_t first = panel * kPanelRows;
    MatmulArgs args;
    args.panel = weight.memory.data() + panel * weight.panel_bytes;
    args.blocks = weight.blocks;
    args.rows = x.rows;
    args.lanes = static_cast<int32_t>(std::min<int64_t>(kPanelRows, weight.rows - first));
    args.bias = task->bias != nullptr ? task->bias + first : nullptr;
    args.out = task->out.data + first;
    args.out_stride = task->out.stride;
    if (!is_quantized(weight.dtype)) {
      args.activation = x.data;
      args.activation_stride = x.stride;
    } else {
      args.activation = is_k_type(weight.dtype) ? activation_k_.data() : activation_32_.data();
    }
    kernel_of(weight.dtype)(args);
  });
}

}  // namespace forerun
