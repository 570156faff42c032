#include "base/work_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <vector>

namespace forerun {
namespace {

TEST(WorkQueue, RunsTasksInOrderOnAThreadOfItsOwn) {
  std::vector<int> order;
  std::thread::id where;
  std::vector<std::unique_ptr<WorkQueue::Task>> tasks;
  {
    WorkQueue queue([&] { where = std::this_thread::get_id(); });
    for (int i = 0; i < 50; ++i) {
      tasks.push_back(std::make_unique<WorkQueue::Task>([&order, &where, i] {
        EXPECT_EQ(std::this_thread::get_id(), where);
        order.push_back(i);
      }));
      queue.start(*tasks.back());
    }
    queue.wait(*tasks.back());
    EXPECT_NE(where, std::this_thread::get_id());
  }
  ASSERT_EQ(order.size(), 50U);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(WorkQueue, HandsAFailureToWhoWaitsOnce) {
  WorkQueue queue;
  int runs = 0;
  WorkQueue::Task task([&] {
    if (++runs == 1) throw std::runtime_error("first");
  });
  EXPECT_THROW(queue.run(task), std::runtime_error);
  EXPECT_NO_THROW(queue.wait(task));
  EXPECT_NO_THROW(queue.run(task));
  EXPECT_EQ(runs, 2);
}

TEST(WorkQueue, EndsAfterWhatIsQueued) {
  std::atomic<int> done{0};
  WorkQueue::Task a([&] { ++done; }), b([&] { ++done; });
  {
    WorkQueue queue;
    queue.start(a);
    queue.start(b);
  }
  EXPECT_EQ(done, 2);
}

}  // namespace
}  // namespace forerun
