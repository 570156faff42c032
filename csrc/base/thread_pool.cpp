#include "base/thread_pool.h"

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/affinity.h"
#include "base/cpu_features.h"
#include "base/error.h"

namespace forerun {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::microseconds kSpin{60};

void pause_core() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Waits until `value` differs from `old`: spins for a while, then sleeps in the kernel.
template <typename Value>
Value wait_for_change(const std::atomic<Value>& value, Value old, bool may_spin) {
  if (may_spin) {
    const Clock::time_point end = Clock::now() + kSpin;
    do {
      for (int i = 0; i < 64; ++i) {
        const Value now = value.load(std::memory_order_acquire);
        if (now != old) return now;
        pause_core();
      }
    } while (Clock::now() < end);
  }
  while (true) {
    value.wait(old, std::memory_order_acquire);
    const Value now = value.load(std::memory_order_acquire);
    if (now != old) return now;
  }
}

constexpr uint64_t kActive = 0xFFFFFFFF;

}  // namespace

// `gate` holds the number of the open region in its upper half, 0 when none is open, and the
// workers inside in its lower half. A worker enters with a compare-and-swap that fails once the
// region is closed, so the caller can close a region without waiting for a worker that has not
// come. Each counter has its own cache line.
struct ThreadPool::State {
  alignas(64) std::atomic<uint32_t> epoch{0};
  alignas(64) std::atomic<uint64_t> gate{0};
  alignas(64) std::atomic<int> entered{0};
  Region region = nullptr;
  void* context = nullptr;
  std::atomic<bool> stop{false};
  bool may_spin =
      true;  // not when there are more threads than cores: the one waited for needs the core
  std::vector<std::thread> workers;

  bool enter(uint32_t region_number) {
    uint64_t seen = gate.load(std::memory_order_acquire);
    while (seen >> 32 == region_number) {
      if (gate.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }

  void work(int thread) {
#if defined(__x86_64__)
    _mm_setcsr(0x1F80);  // the default mode, whatever the creating thread had set: no flush to zero
#endif
    uint32_t seen = 0;
    while (true) {
      seen = wait_for_change(epoch, seen, may_spin);
      if (stop) return;
      if (!enter(seen)) continue;
      entered.fetch_add(1, std::memory_order_release);
      entered.notify_one();
      region(context, thread);
      gate.fetch_sub(1, std::memory_order_acq_rel);
      gate.notify_one();
    }
  }

  void finish() {
    stop = true;
    epoch.fetch_add(1, std::memory_order_release);
    epoch.notify_all();
    for (std::thread& worker : workers) worker.join();
  }
};

ThreadPool::ThreadPool(int threads, std::span<const int> cores) : threads_(threads) {
  if (threads < 1) {
    throw Error(ErrorKind::kBadArgument,
                "threads: expected at least 1, found " + std::to_string(threads));
  }
  state_ = std::make_unique<State>();
  state_->may_spin = threads <= cpu_features().cores;
  try {
    const std::vector<int> bound(cores.begin(), cores.end());
    for (int i = 1; i < threads; ++i) {
      state_->workers.emplace_back([this, i, bound] {
        bind_thread(bound);
        state_->work(i);
      });
    }
  } catch (...) {
    state_->finish();
    throw Error(ErrorKind::kOutOfMemory,
                "the system refused to start " + std::to_string(threads) + " threads");
  }
}

ThreadPool::~ThreadPool() { state_->finish(); }

void ThreadPool::run_erased(Region region, void* context, bool everyone) {
  State& state = *state_;
  if (threads_ == 1) {
    region(context, 0);
    return;
  }
  state.region = region;
  state.context = context;
  state.entered.store(0, std::memory_order_relaxed);
  uint32_t number = state.epoch.load(std::memory_order_relaxed) + 1;
  if (number == 0) number = 1;  // 0 means that no region is open
  state.gate.store(uint64_t{number} << 32, std::memory_order_release);
  state.epoch.store(number, std::memory_order_release);
  state.epoch.notify_all();
  region(context, 0);
  if (everyone) {
    for (int in = state.entered.load(std::memory_order_acquire); in < threads_ - 1;) {
      in = wait_for_change(state.entered, in, state.may_spin);
    }
  }
  uint64_t inside = state.gate.fetch_and(kActive, std::memory_order_acq_rel) & kActive;
  while (inside != 0) inside = wait_for_change(state.gate, inside, state.may_spin);
}

}  // namespace forerun
