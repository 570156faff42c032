#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

#include "base/error.h"

namespace forerun {
namespace {

TEST(ThreadPool, RunsTheBodyOnceOnEveryThread) {
  for (int threads : {1, 2, 3, 9}) {
    ThreadPool pool(threads);
    std::vector<int> calls(static_cast<size_t>(threads), 0);
    for (int region = 1; region <= 200; ++region) {
      pool.run([&](int thread) { ++calls[static_cast<size_t>(thread)]; });
      for (int count : calls) ASSERT_EQ(count, region);
    }
  }
}

TEST(ThreadPool, HandsOutEveryItemOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int64_t items : {0, 1, 7, 1000}) {
      for (int64_t grain : {1, 3, 64, 2000}) {
        std::vector<int> seen(static_cast<size_t>(items), 0);
        pool.parallel_for(items, grain, [&](int64_t item) { ++seen[static_cast<size_t>(item)]; });
        for (int count : seen) ASSERT_EQ(count, 1);
      }
    }
  }
}

TEST(ThreadPool, WakesThreadsThatHaveGoneToSleep) {
  ThreadPool pool(3);
  int64_t sum = 0;
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    std::vector<int64_t> part(3, 0);
    pool.run([&](int thread) { part[static_cast<size_t>(thread)] = thread + 1; });
    sum += part[0] + part[1] + part[2];
  }
  EXPECT_EQ(sum, 30);
}

TEST(ThreadPool, EndsWithoutEverHavingRun) {
  for (int i = 0; i < 20; ++i) ThreadPool pool(4);
}

TEST(ThreadPool, DoesNotHangWithFarMoreThreadsThanCores) {
  ThreadPool pool(32);
  const auto start = std::chrono::steady_clock::now();
  std::atomic<int64_t> total{0};
  for (int region = 0; region < 200; ++region) pool.run([&](int) { ++total; });
  EXPECT_EQ(total.load(), 200 * 32);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(ThreadPool, RefusesToBeEmpty) {
  EXPECT_THROW(ThreadPool(0), Error);
  EXPECT_THROW(ThreadPool(-3), Error);
}

}  // namespace
}  // namespace forerun
