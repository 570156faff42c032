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

const uint8_t* panel_of(const CpuWeight& weight, int64_t panel) {
  return weight.memory.data + panel * weight.panel_bytes;
}

// The panel of this number among those of all tasks; nullptr behind the last.
const uint8_t* panel_at(std::span<const LinearTask> tasks, int64_t panel) {
  for (const LinearTask& task : tasks) {
    if (panel < weight_of(task).panels) return panel_of(weight_of(task), panel);
    panel -= weight_of(task).panels;
  }
  return nullptr;
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

struct Run {  // of neighbouring panels
  int64_t first = 0, count = 0;
  int64_t end() const { return first + count; }
};

// Calls body(run, next) for runs that get shorter towards the end so that threads end together, but
// not so short that the reading starts over all the time. A thread takes its next run before it
// begins with one, so that the weights it goes on with are fetched in time; next is empty at last.
template <typename Body>
void each_run(ThreadPool& pool, int64_t panels, int64_t panel_bytes, Body&& body) {
  constexpr int64_t kMost = 64, kLeastBytes = 32768;
  const int64_t least = std::clamp<int64_t>(kLeastBytes / panel_bytes, 1, kMost);
  std::atomic<int64_t> taken{0};
  const auto take = [&] {
    Run run{taken.load(std::memory_order_relaxed), 0};
    do {
      const int64_t left = panels - run.first;
      run.count = std::min(std::clamp(left / (int64_t{2} * pool.size()), least, kMost), left);
    } while (run.count > 0 &&
             !taken.compare_exchange_weak(run.first, run.end(), std::memory_order_relaxed));
    return run;
  };
  const auto work = [&](int) {
    for (Run run = take(), next; run.count > 0; run = next) {
      next = take();
      body(run, next);
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
  each_run(pool_, panels, weight_of(tasks[0]).panel_bytes, [&](const Run& run, const Run& next) {
    int64_t begin = 0;  // of a task's panels, among those of all
    for (const LinearTask& task : tasks) {
      const int64_t end = begin + weight_of(task).panels;
      const int64_t from = std::max(run.first, begin), to = std::min(run.end(), end);
      if (from < to) {
        const uint8_t* then = panel_at(tasks, to < run.end() ? to : next.first);
        multiply(x, task, static_cast<int32_t>(from - begin), static_cast<int32_t>(to - from),
                 then);
      }
      begin = end;
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
  each_run(pool_, weight_of(gate).panels, bytes, [&](const Run& run, const Run& next) {
    const auto first = static_cast<int32_t>(run.first), count = static_cast<int32_t>(run.count);
    multiply(x, gate, first, count, panel_at({&up, 1}, run.first));
    multiply(x, up, first, count, panel_at({&gate, 1}, next.first));
    const int64_t output = run.first * kPanelRows;
    const int64_t outputs = std::min(run.count * kPanelRows, gate.weight->rows - output);
    for (int32_t row = 0; row < x.rows; ++row) {
      float* out = gate.out.row(row) + output;
      kernels_.swiglu(out, up.out.row(row) + output, outputs, out);
    }
  });
}

// `panels` panels of a task from `first` on. next: what this thread reads then, or nullptr.
void CpuBackend::multiply(Tensor x, const LinearTask& task, int32_t first, int32_t panels,
                          const uint8_t* next) {
  const CpuWeight& weight = weight_of(task);
  const int64_t output = int64_t{first} * kPanelRows;
  MatmulArgs args;
  args.panel = panel_of(weight, first);
  args.panel_bytes = weight.panel_bytes;
  args.panels = panels;
  args.next = next;
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
