#include "base/thread_pool.h"

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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
int wait_for_change(const std::atomic<int>& value, int old, bool may_spin) {
  if (may_spin) {
    const Clock::time_point end = Clock::now() + kSpin;
    do {
      for (int i = 0; i < 64; ++i) {
        const int now = value.load(std::memory_order_acquire);
        if (now != old) return now;
        pause_core();
      }
    } while (Clock::now() < end);
  }
  while (true) {
    value.wait(old, std::memory_order_acquire);
    const int now = value.load(std::memory_order_acquire);
    if (now != old) return now;
  }
}

}  // namespace

// The caller publishes a region by a release increment of `epoch`; each worker reports by a release
// decrement of `busy`, which the caller acquires. The two counters have their own cache lines.
struct ThreadPool::State {
  alignas(64) std::atomic<int> epoch{0};
  alignas(64) std::atomic<int> busy{0};
  Region region = nullptr;
  void* context = nullptr;
  bool stop = false;
  bool may_spin =
      true;  // not when there are more threads than cores: the one waited for needs the core
  std::vector<std::thread> workers;

  void work(int thread) {
#if defined(__x86_64__)
    _mm_setcsr(0x1F80);  // the default mode, whatever the creating thread had set: no flush to zero
#endif
    int seen = 0;
    while (true) {
      seen = wait_for_change(epoch, seen, may_spin);
      if (stop) return;
      region(context, thread);
      if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1) busy.notify_one();
    }
  }

  void finish() {
    stop = true;
    epoch.fetch_add(1, std::memory_order_release);
    epoch.notify_all();
    for (std::thread& worker : workers) worker.join();
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads) {
  if (threads < 1) {
    throw Error(ErrorKind::kBadArgument,
                "threads: expected at least 1, found " + std::to_string(threads));
  }
  state_ = std::make_unique<State>();
  state_->may_spin = threads <= cpu_features().cores;
  try {
    for (int i = 1; i < threads; ++i) state_->workers.emplace_back([this, i] { state_->work(i); });
  } catch (...) {
    state_->finish();
    throw Error(ErrorKind::kOutOfMemory,
                "the system refused to start " + std::to_string(threads) + " threads");
  }
}

ThreadPool::~ThreadPool() { state_->finish(); }

void ThreadPool::run_erased(Region region, void* context) {
  State& state = *state_;
  if (threads_ == 1) {
    region(context, 0);
    return;
  }
  state.region = region;
  state.context = context;
  state.busy.store(threads_ - 1, std::memory_order_relaxed);
  state.epoch.fetch_add(1, std::memory_order_release);
  state.epoch.notify_all();
  region(context, 0);
  for (int left = state.busy.load(std::memory_order_acquire); left != 0;) {
    left = wait_for_change(state.busy, left, state.may_spin);
  }
}

}  // namespace forerun
