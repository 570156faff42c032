#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace forerun {

// A mutex that its threads get in the order in which they asked: a std::mutex may go to the thread
// that has just let go of it time and again, while others wait.
class TurnLock {
 public:
  void lock() {
    std::unique_lock lock(mutex_);
    const uint64_t mine = asked_++;
    changed_.wait(lock, [&] { return mine == served_; });
  }

  void unlock() {
    {
      const std::lock_guard lock(mutex_);
      ++served_;
    }
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t asked_ = 0, served_ = 0;
};

}  // namespace forerun
