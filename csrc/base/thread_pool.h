#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>

namespace forerun {

// A fixed set of threads that run one parallel region at a time. The calling thread takes part as
// index 0. Workers spin for a short while before they sleep, so that back-to-back regions cost a
// few microseconds. One caller at a time (a step holds the engine's lock); the destructor joins. No
// allocation per region.
class ThreadPool {
 public:
  // threads >= 1, else Error(kBadArgument). cores: where the workers run; empty: anywhere. (The
  // caller binds itself.)
  explicit ThreadPool(int threads, std::span<const int> cores = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return threads_; }

  // Calls body(thread_index) once on every thread and returns when all are done. body must not
  // throw.
  template <typename Body>
  void run(Body&& body) {
    run_body(body, true);
  }

  // Calls body(thread_index) on the caller and on the workers that come before the caller is done:
  // for bodies that take their work from a shared counter. On a crowded machine nobody waits for a
  // worker that has no core.
  template <typename Body>
  void share(Body&& body) {
    run_body(body, false);
  }

  // Calls body(item) for every item in [0, items), handed out `grain` at a time from a shared
  // counter.
  template <typename Body>
  void parallel_for(int64_t items, int64_t grain, Body&& body) {
    if (threads_ == 1 || items <= grain) {
      for (int64_t i = 0; i < items; ++i) body(i);
      return;
    }
    std::atomic<int64_t> next{0};
    share([&](int) {
      for (int64_t first = next.fetch_add(grain); first < items; first = next.fetch_add(grain)) {
        const int64_t last = first + grain < items ? first + grain : items;
        for (int64_t i = first; i < last; ++i) body(i);
      }
    });
  }

 private:
  using Region = void (*)(void* context, int thread);
  void run_erased(Region region, void* context, bool everyone);

  template <typename Body>
  void run_body(Body& body, bool everyone) {
    using Plain = std::remove_reference_t<Body>;
    run_erased([](void* context, int thread) { (*static_cast<Plain*>(context))(thread); },
               const_cast<void*>(static_cast<const void*>(&body)), everyone);
  }

  struct State;
  std::unique_ptr<State> state_;
  int threads_;
};

}  // namespace forerun
