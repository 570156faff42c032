#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/request.h"
#include "engine/request_state.h"

namespace forerun {

// Continuous batching: requests enter and leave a running batch between steps. One worker thread
// does all steps; every turn it admits who fits, forwards one chunk of one prompt, and makes one
// decode step of all whose prompt is done, in one forward. Rows do not depend on their neighbours,
// so each request gets the tokens that it would get alone.
//
// Order: larger priority first, and every kAge turns of waiting count as one level, so nobody
// starves; of equals the earlier. The first in this order that does not fit (max_batch, kv_bytes)
// blocks the others, or a large request would wait for ever. A running request keeps its place.
class Scheduler {
 public:
  static constexpr int64_t kAge = 64;
  static constexpr int32_t kChunkBesides = 64;  // prompt rows a turn while others decode

  explicit Scheduler(std::shared_ptr<EngineState> engine);
  ~Scheduler();  // ends all requests as cancelled

  // Error(kBadArgument) for what could never run, kBusy when the queue is full.
  Request submit(std::vector<int32_t> prompt, const RequestOptions& options);

 private:
  using Shared = std::shared_ptr<RequestState>;
  void run();
  void admit();
  void start(const Shared& request);
  void prefill();
  void decode();
  void step(std::vector<Shared>& batch);
  void leave(const Shared& request, std::exception_ptr failure);
  int64_t rank(const RequestState& request) const;  // the larger is served first
  int64_t kv_bytes_of(const RequestState& request) const;

  std::shared_ptr<EngineState> engine_;
  std::mutex mutex_;  // of waiting_ and stopping_
  std::condition_variable work_, place_;
  std::vector<Shared> waiting_;  // as they came
  bool stopping_ = false;

  // Of the worker.
  std::vector<Shared> running_, batch_;
  std::vector<SessionState*> sessions_;
  int64_t kv_bytes_ = 0;  // reserved by running_
  std::atomic<int64_t> turn_{0};

  std::thread worker_;  // last: it uses all of the above
};

}  // namespace forerun
