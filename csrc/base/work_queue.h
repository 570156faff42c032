#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace forerun {

// One thread that runs tasks in the order in which they come. A task belongs to who made it and is
// run again and again; handing it over allocates nothing once the queue has been as long before.
class WorkQueue {
 public:
  // Something to run. Not to be destroyed or started again before wait().
  class Task {
   public:
    explicit Task(std::function<void()> work) : work_(std::move(work)) {}
    Task(const Task&) = delete;
    Task& operator=(const Task&) = delete;

   private:
    friend class WorkQueue;
    std::function<void()> work_;
    std::exception_ptr failure_;
    bool pending_ = false;  // started and not done; under the queue's mutex
  };

  explicit WorkQueue(std::function<void()> first = {});  // `first`: run by the thread at its start
  ~WorkQueue();                                          // runs what is queued, then joins
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  void start(Task& task);
  // Returns when the task is not pending, and throws what its last run threw, once.
  void wait(Task& task);
  void run(Task& task) {
    start(task);
    wait(task);
  }

 private:
  void work();

  std::function<void()> first_;
  std::mutex mutex_;
  std::condition_variable arrived_, done_;
  std::deque<Task*> tasks_;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace forerun
