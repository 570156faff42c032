#pragma once

#include <map>
#include <memory>

#include "backend/backend.h"
#include "base/work_queue.h"

namespace forerun {

// One queue per back end: what is handed to a back end is done in order, by one thread, which keeps
// to the back end's cores. Two back ends work side by side; each does one forward at a time.
class Executor {
 public:
  // The queue of a back end, started when it is first asked for; it keeps the back end alive.
  std::shared_ptr<WorkQueue> queue_of(const std::shared_ptr<Backend>& backend) {
    std::shared_ptr<WorkQueue>& queue = queues_[backend];
    if (!queue) queue = std::make_shared<WorkQueue>([backend] { backend->bind_thread(); });
    return queue;
  }

 private:
  std::map<std::shared_ptr<Backend>, std::shared_ptr<WorkQueue>> queues_;
};

}  // namespace forerun
