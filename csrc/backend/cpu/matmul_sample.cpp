#include "backend/cpu/matmul_sample.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>

#include "backend/cpu/float_mode.h"
#include "backend/cpu/pack.h"

namespace forerun {
namespace {

constexpr int32_t kInputs = 1568;  // an odd number of blocks of 32
constexpr int32_t kInputsK = 1536;
constexpr int32_t kDistinct = 2;
constexpr int32_t kRun = 8;  // panels

int32_t inputs_of(DType dtype) { return dtype_info(dtype).block == 256 ? kInputsK : kInputs; }

// splitmix64: any well-mixed sequence does.
uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

// Blocks in the file's form. Every half float in them lies at an even offset, so that without bit 6
// of the odd bytes it is below 2.
std::vector<std::byte> random_weights(DType dtype, int64_t rows, int64_t cols) {
  std::vector<std::byte> bytes(static_cast<size_t>(dtype_bytes(dtype, rows * cols)));
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(mix(i) & (i % 2 == 0 ? 0xFF : 0xBF));
  }
  return bytes;
}

}  // namespace

int64_t MatmulSample::panel_bytes(DType dtype) {
  return dtype_bytes(dtype, int64_t{kPanelRows} * inputs_of(dtype));
}

MatmulSample::MatmulSample(const KernelTable& kernels, DType dtype, int32_t panels,
                           int32_t max_rows, ThreadPool& pool)
    : kernels_(kernels), k_type_(dtype_info(dtype).block == 256) {
  const int32_t inputs = inputs_of(dtype);
  const std::vector<std::byte> bytes = random_weights(dtype, kDistinct * kPanelRows, inputs);
  PageArena arena;
  const auto packed =
      pack_panels({dtype, kDistinct * kPanelRows, inputs, bytes.data()}, arena, pool);
  weights_ = PageBlock(packed->panel_bytes * panels);
  pool.parallel_for(panels, 16, [&](int64_t panel) {
    std::memcpy(weights_.data() + panel * packed->panel_bytes,
                packed->memory.data + panel % kDistinct * packed->panel_bytes,
                static_cast<size_t>(packed->panel_bytes));
  });
  x_.resize(static_cast<size_t>(max_rows) * static_cast<size_t>(inputs));
  for (size_t i = 0; i < x_.size(); ++i) {
    x_[i] = static_cast<float>(static_cast<int32_t>(mix(~i) & 0xFFFF) - 0x8000) / 8192.0F;
  }
  out_.resize(static_cast<size_t>(max_rows) * static_cast<size_t>(panels) * kPanelRows);
  activations_ =
      PageBlock(int64_t{max_rows} * packed->blocks *
                static_cast<int64_t>(k_type_ ? sizeof(ActivationK) : sizeof(Activation32)));
  args_.panel = weights_.data();
  args_.panel_bytes = packed->panel_bytes;
  args_.panels = panels;
  args_.outputs = panels * kPanelRows;
  args_.blocks = packed->blocks;
  args_.activation = activations_.data();
  args_.out = out_.data();
  args_.out_stride = args_.outputs;
  set_rows(max_rows);
}

void MatmulSample::set_rows(int32_t rows) {
  const FloatMode mode;
  args_.rows = rows;
  const int32_t inputs = args_.blocks * (k_type_ ? 256 : 32);
  for (int32_t row = 0; row < rows; ++row) {
    const float* x = x_.data() + int64_t{row} * inputs;
    if (k_type_) {
      auto* to = reinterpret_cast<ActivationK*>(activations_.data()) + row;
      kernels_.quantize_k(x, args_.blocks, to, rows);
    } else {
      auto* to = reinterpret_cast<Activation32*>(activations_.data()) + row;
      kernels_.quantize_32(x, args_.blocks, to, rows);
    }
  }
}

std::span<const float> MatmulSample::run(MatmulKernel kernel, ThreadPool& pool) {
  const FloatMode mode;
  pool.parallel_for((args_.panels + kRun - 1) / kRun, 1, [&](int64_t index) {
    const auto first = static_cast<int32_t>(index) * kRun;
    MatmulArgs part = args_;
    part.panel += first * args_.panel_bytes;
    part.panels = std::min(kRun, args_.panels - first);
    part.outputs = part.panels * kPanelRows;
    part.out += first * kPanelRows;
    kernel(part);
  });
  return {out_.data(), static_cast<size_t>(args_.rows) * static_cast<size_t>(args_.out_stride)};
}

double MatmulSample::seconds(MatmulKernel kernel, ThreadPool& pool) {
  double best = std::numeric_limits<double>::infinity();
  for (int pass = 0; pass < 3; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    run(kernel, pool);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = std::min(best, taken.count());
  }
  return best;
}

}  // namespace forerun
