#include "base/turn_lock.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

namespace forerun {
namespace {

TEST(TurnLock, LetsOneThreadInAtATime) {
  TurnLock turns;
  int64_t count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 5000; ++n) {
        const std::lock_guard lock(turns);
        ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count, 20000);
}

// Threads that hold it for long and ask again at once, as steps do.
TEST(TurnLock, ThreadsTakeTurns) {
  TurnLock turns;
  std::atomic<bool> stop = false;
  int held[2] = {0, 0};
  const auto steps = [&](int& count) {
    while (!stop) {
      const std::lock_guard lock(turns);
      ++count;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  };
  std::thread first(steps, std::ref(held[0])), second(steps, std::ref(held[1]));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  stop = true;
  first.join();
  second.join();
  EXPECT_GT(held[0] + held[1], 4);
  EXPECT_GT(3 * held[0], held[1]);
  EXPECT_GT(3 * held[1], held[0]);
}

}  // namespace
}  // namespace forerun
