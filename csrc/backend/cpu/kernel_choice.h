#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/cpu/kernel_table.h"
#include "base/dtype.h"
#include "base/thread_pool.h"

namespace forerun {

// Which of several kernels multiplies M rows by weights of a type. All give the same bits, so the
// choice is only about time and may differ from run to run: it is measured, once per type, where
// there is more than one. A kernel beside the first is tried against it before it is a candidate,
// because tiles depend on an operating system, a hypervisor and a stepping that no test has seen.
class KernelChoice {
 public:
  KernelChoice(const KernelTable& kernels, std::span<const MatmulTable* const> others,
               ThreadPool& pool);

  MatmulKernel kernel(DType dtype, int32_t rows) const;  // Error(kUnsupported) naming the type

  // Times the candidates for a type on a sample that the second-level caches do not hold, some ten
  // milliseconds; at once where that is done already or there is one candidate.
  void measure(DType dtype, ThreadPool& pool);
  // The same with given figures: seconds of a kernel at a number of rows.
  using Timer = std::function<double(MatmulKernel kernel, int32_t rows)>;
  void decide(DType dtype, const Timer& seconds);
  // The kernels of this table where it has them, for all rows; nothing is measured any more.
  void prefer(std::string_view table);

  // The tables whose kernels multiply by a type: each up to `rows` rows, the last whatever their
  // number (0). Empty for a type without a kernel.
  struct Use {
    int32_t rows = 0;
    std::string_view table;
  };
  std::vector<Use> uses(DType dtype) const;
  // "Q4_K: avx512 up to 4 rows, amx above", and kernels that gave other bits; often nothing
  std::string description() const;

 private:
  // Measured at these numbers of rows. Each stands for those down to the one before it, the last
  // also for all above it.
  static constexpr std::array<int32_t, 10> kRows = {1, 2, 4, 6, 8, 12, 16, 24, 32, 64};

  struct Candidate {
    std::string_view table;
    MatmulKernel kernel;
  };
  struct Type {
    std::vector<Candidate> candidates;
    std::array<uint8_t, kRows.size()> winner = {};  // index of a candidate, by kRows
    bool decided = false;
    std::string refused;  // tables with other bits
  };

  Type& of(DType dtype) { return types_[static_cast<size_t>(dtype)]; }
  const Type& of(DType dtype) const { return types_[static_cast<size_t>(dtype)]; }
  void try_kernel(DType dtype, const MatmulTable& table, ThreadPool& pool);

  const KernelTable& kernels_;
  std::array<Type, kDTypeCount> types_;
};

}  // namespace forerun
