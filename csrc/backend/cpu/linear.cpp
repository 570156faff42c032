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

// One region over the panels of all tasks, in runs of neighbours of one task. A panel goes through
// all rows while it is in the cache.
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
  const auto length =
      static_cast<int32_t>(std::clamp<int64_t>(panels / (int64_t{pool_.size()} * 8), 1, 64));
  const auto runs_of = [&](const LinearTask& task) {
    return (weight_of(task).panels + length - 1) / length;
  };
  int64_t runs = 0;
  for (const LinearTask& task : tasks) runs += runs_of(task);
  pool_.parallel_for(runs, 1, [&](int64_t index) {
    const LinearTask* task = tasks.data();
    while (index >= runs_of(*task)) index -= runs_of(*task++);
    multiply(x, *task, static_cast<int32_t>(index) * length, length);
  });
}

// At most `panels` panels of a task from `first` on.
void CpuBackend::multiply(Tensor x, const LinearTask& task, int32_t first, int32_t panels) {
  const CpuWeight& weight = weight_of(task);
  const int64_t output = int64_t{first} * kPanelRows;
  MatmulArgs args;
  args.panel = weight.memory.data + first * weight.panel_bytes;
  args.panel_bytes = weight.panel_bytes;
  args.panels = std::min(panels, weight.panels - first);
  args.outputs = static_cast<int32_t>(
      std::min<int64_t>(int64_t{args.panels} * kPanelRows, weight.rows - output));
  args.blocks = weight.blocks;
  args.rows = x.rows;
  args.bias = task.bias != nullptr ? task.bias + output : nullptr;
  args.out = task.out.data + output;
  args.out_stride = task.out.stride;
  if (!is_quantized(weight.dtype)) {
    args.activation = x.data;
    args.activation_stride = x.stride;
  } else {
    args.activation = is_k_type(weight.dtype) ? activation_k_.data() : activation_32_.data();
  }
  choice_.kernel(weight.dtype, x.rows)(args);
}

}  // namespace forerun
