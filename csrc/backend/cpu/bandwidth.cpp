#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>

#include "backend/backend.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/memory.h"
#include "base/cpu_features.h"
#include "base/thread_pool.h"

namespace forerun {

double measure_read_bandwidth(int threads, int64_t bytes_per_thread) {
  constexpr int kPasses = 5;
  const KernelTable& kernels = kernels_of(selected_isa()).table;
  const int64_t bytes = std::max<int64_t>(bytes_per_thread, 4096) / 4096 * 4096;
  ThreadPool pool(threads);
  PageBlock block(bytes * threads);
  pool.run([&](int thread) {
    std::memset(block.data() + bytes * thread, thread + 1, static_cast<size_t>(bytes));
  });
  double best = std::numeric_limits<double>::infinity();
  std::atomic<uint64_t> total{0};
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    pool.run([&](int thread) { total += kernels.read(block.data() + bytes * thread, bytes); });
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = std::min(best, taken.count());
  }
  return total == 0 ? 0.0 : static_cast<double>(bytes) * threads / best / 1e9;
}

}  // namespace forerun
