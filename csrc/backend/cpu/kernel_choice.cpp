#include "backend/cpu/kernel_choice.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/matmul_sample.h"
#include "base/error.h"

namespace forerun {
namespace {

constexpr int64_t kSampleBytes = int64_t{4} << 20;  // per thread

MatmulKernel kernel_of(const MatmulTable& table, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return table.f32;
    case DType::kF16:
      return table.f16;
    case DType::kBF16:
      return table.bf16;
    case DType::kQ4_0:
      return table.q4_0;
    case DType::kQ4_1:
      return table.q4_1;
    case DType::kQ5_0:
      return table.q5_0;
    case DType::kQ5_1:
      return table.q5_1;
    case DType::kQ8_0:
      return table.q8_0;
    case DType::kQ4_K:
      return table.q4_k;
    case DType::kQ5_K:
      return table.q5_k;
    case DType::kQ6_K:
      return table.q6_k;
    case DType::kI8:
    case DType::kI32:
      break;
  }
  return nullptr;
}

std::string name_of(DType dtype) { return std::string(dtype_info(dtype).name); }

}  // namespace

KernelChoice::KernelChoice(const KernelTable& kernels, std::span<const MatmulTable* const> others,
                           ThreadPool& pool)
    : kernels_(kernels) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    const MatmulKernel first = kernel_of(kernels.matmul, dtype);
    if (first == nullptr) continue;
    of(dtype).candidates.push_back({kernels.matmul.name, first});
    for (const MatmulTable* table : others) {
      // only quantised weights give the same bits everywhere
      if (is_quantized(dtype) && kernel_of(*table, dtype) != nullptr) {
        try_kernel(dtype, *table, pool);
      }
    }
    of(dtype).decided = of(dtype).candidates.size() == 1;
  }
}

// One and several tiles of rows, full ones and others.
void KernelChoice::try_kernel(DType dtype, const MatmulTable& table, ThreadPool& pool) {
  MatmulSample sample(kernels_, dtype, 2, 39, pool);
  for (int32_t rows : {39, 16, 5}) {
    sample.set_rows(rows);
    const std::span<const float> found = sample.run(kernel_of(table, dtype), pool);
    const std::vector<float> bits(found.begin(), found.end());
    const std::span<const float> expected = sample.run(kernel_of(kernels_.matmul, dtype), pool);
    if (std::memcmp(bits.data(), expected.data(), expected.size_bytes()) == 0) continue;
    of(dtype).refused += (of(dtype).refused.empty() ? "" : ", ") + std::string(table.name);
    return;
  }
  of(dtype).candidates.push_back({table.name, kernel_of(table, dtype)});
}

MatmulKernel KernelChoice::kernel(DType dtype, int32_t rows) const {
  const Type& type = of(dtype);
  if (type.candidates.empty())
    throw Error(ErrorKind::kUnsupported, "linear: no kernel for " + name_of(dtype));
  const auto* at = std::lower_bound(kRows.begin(), kRows.end() - 1, rows);
  return type.candidates[type.winner[static_cast<size_t>(at - kRows.begin())]].kernel;
}

void KernelChoice::measure(DType dtype, ThreadPool& pool) {
  if (of(dtype).decided || of(dtype).candidates.empty()) return;
  const int64_t panels = kSampleBytes * pool.size() / MatmulSample::panel_bytes(dtype) + 1;
  MatmulSample sample(kernels_, dtype, static_cast<int32_t>(panels), kRows.back(), pool);
  decide(dtype, [&](MatmulKernel kernel, int32_t rows) {
    sample.set_rows(rows);
    return sample.seconds(kernel, pool);
  });
}

// A later candidate must be 3 % faster. Once it is twice as fast as the others, more rows are left
// to it unmeasured.
void KernelChoice::decide(DType dtype, const Timer& seconds) {
  Type& type = of(dtype);
  bool clear = false;
  for (size_t i = 0; i < kRows.size(); ++i) {
    if (clear) {
      type.winner[i] = type.winner[i - 1];
      continue;
    }
    double best = seconds(type.candidates[0].kernel, kRows[i]);
    type.winner[i] = 0;
    for (size_t c = 1; c < type.candidates.size(); ++c) {
      const double time = seconds(type.candidates[c].kernel, kRows[i]);
      clear = time < 0.5 * best;
      if (time >= 0.97 * best) continue;
      best = time;
      type.winner[i] = static_cast<uint8_t>(c);
    }
  }
  type.decided = true;
}

void KernelChoice::prefer(std::string_view table) {
  for (Type& type : types_) {
    for (size_t c = 0; c < type.candidates.size(); ++c) {
      if (type.candidates[c].table == table) type.winner.fill(static_cast<uint8_t>(c));
    }
    type.decided = true;
  }
}

std::vector<KernelChoice::Use> KernelChoice::uses(DType dtype) const {
  const Type& type = of(dtype);
  std::vector<Use> uses;
  for (size_t at = 0; at < kRows.size() && !type.candidates.empty(); ++at) {
    const bool last = at + 1 == kRows.size();
    if (!last && type.winner[at + 1] == type.winner[at]) continue;
    uses.push_back({last ? 0 : kRows[at], type.candidates[type.winner[at]].table});
  }
  return uses;
}

std::string KernelChoice::description() const {
  std::string text;
  for (int i = 0; i < kDTypeCount; ++i) {
    const Type& type = types_[static_cast<size_t>(i)];
    const std::string name = name_of(static_cast<DType>(i));
    const auto add = [&](const std::string& part) { text += (text.empty() ? "" : "; ") + part; };
    if (!type.refused.empty()) add(name + ": other bits with " + type.refused + ", not used");
    if (type.candidates.size() < 2 || !type.decided) continue;
    std::string runs;
    for (const Use& use : uses(static_cast<DType>(i))) {
      runs += (runs.empty() ? "" : ", ") + std::string(use.table);
      if (use.rows != 0) runs += " up to " + std::to_string(use.rows) + " rows";
    }
    add(name + ": " + runs);
  }
  return text;
}

}  // namespace forerun
