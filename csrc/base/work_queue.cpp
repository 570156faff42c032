#include "base/work_queue.h"

#include <utility>

namespace forerun {

WorkQueue::WorkQueue(std::function<void()> first) : first_(std::move(first)) {
  thread_ = std::thread([this] { work(); });
}

WorkQueue::~WorkQueue() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  arrived_.notify_all();
  thread_.join();
}

void WorkQueue::start(Task& task) {
  {
    const std::lock_guard lock(mutex_);
    task.pending_ = true;
    tasks_.push_back(&task);
  }
  arrived_.notify_one();
}

void WorkQueue::wait(Task& task) {
  std::exception_ptr failure;
  {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&task] { return !task.pending_; });
    failure = std::exchange(task.failure_, nullptr);
  }
  if (failure) std::rethrow_exception(failure);
}

void WorkQueue::work() {
  if (first_) first_();
  std::unique_lock lock(mutex_);
  while (true) {
    arrived_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    Task& task = *tasks_.front();
    tasks_.pop_front();
    lock.unlock();
    std::exception_ptr failure;
    try {
      task.work_();
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    task.failure_ = std::move(failure);
    task.pending_ = false;
    done_.notify_all();
  }
}

}  // namespace forerun
