#include <algorithm>
#include <atomic>
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

// Calls body(first, count) for runs of neighbouring panels, shorter towards the end so that threads
// end together, but not so short that the reading starts over all the time.
template <typename Body>
void each_run(ThreadPool& pool, int64_t panels, int64_t panel_bytes, Body&& body) {
  constexpr int64_t kMost = 64, kLeastBytes = 32768;
  const int64_t least = std::clamp<int64_t>(kLeastBytes / panel_bytes, 1, kMost);
  std::atomic<int64_t> next{0};
  const auto work = [&](int) {
    for (int64_t first = next.load(std::memory_order_relaxed); first < panels;) {
      const int64_t fair = (panels - first) / (int64_t{2} * pool.size());
      const int64_t count = std::min(std::clamp(fair, least, kMost), panels - first);
      if (!next.compare_exchange_weak(first, first + count, std::memory_order_relaxed)) continue;
      body(first, count);
      first = next.load(std::memory_order_relaxed);
    }
  };
  if (panels <= least) {
    work(0);
  } else {
    pool.share(work);
  }
}

}  // namespace

void CpuBackend::quantize_for(Tensor x, std::span<const LinearTask> tasks) {
  bool k_types = false;
  bool legacy_types = false;
  for (const LinearTask& task : tasks) {
    k_types |= is_k_type(task.weight->dtype);
    legacy_types |= is_quantized(task.weight->dtype) && !is_k_type(task.weight->dtype);
  }
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
  if (x.rows == 0 || tasks.empty()) return;
  quantize_for(x, tasks);
  int64_t panels = 0;
  for (const LinearTask& task : tasks) panels += weight_of(task).panels;
  each_run(pool_, panels, weight_of(tasks[0]).panel_bytes, [&](int64_t first, int64_t count) {
    for (const LinearTask& task : tasks) {
      const int64_t here = std::min(count, weight_of(task).panels - first);
      if (here > 0) {
        multiply(x, task, static_cast<int32_t>(first), static_cast<int32_t>(here));
        first += here;
        count -= here;
      }
      if (count == 0) return;
      first -= weight_of(task).panels;
    }
  });
}

// The product of both while the runs are in the cache.
void CpuBackend::gated_linear(Tensor x, const LinearTask& gate, const LinearTask& up) {
  const FloatMode mode;
  const LinearTask tasks[] = {gate, up};
  check(x, tasks);
  if (gate.weight->rows != up.weight->rows) {
    throw Error(ErrorKind::kBadArgument, "gated_linear: a gate of " +
                                             std::to_string(gate.weight->rows) +
                                             " outputs beside " + std::to_string(up.weight->rows));
  }
  if (x.rows == 0) return;
  quantize_for(x, tasks);
  const int64_t bytes = weight_of(gate).panel_bytes + weight_of(up).panel_bytes;
  each_run(pool_, weight_of(gate).panels, bytes, [&](int64_t first, int64_t count) {
    for (const LinearTask& task : tasks) {
      multiply(x, task, static_cast<int32_t>(first), static_cast<int32_t>(count));
    }
    const int64_t output = first * kPanelRows;
    const int64_t outputs = std::min(count * kPanelRows, gate.weight->rows - output);
    for (int32_t row = 0; row < x.rows; ++row) {
      float* out = gate.out.row(row) + output;
      kernels_.swiglu(out, up.out.row(row) + output, outputs, out);
    }
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
