#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/emitter.h"
#include "engine/request.h"
#include "engine/session_state.h"

namespace forerun {

// What a Request and the scheduler's worker share. Under `mutex`: text, ended, failure. The rest
// belongs to the worker until `ended` is set, and is then left alone.
struct RequestState {
  RequestState(const EngineState& engine, std::vector<int32_t> prompt, const RequestOptions& asked);

  // By the worker.
  void push(std::string_view piece);
  void end(std::exception_ptr why);  // null: its completion is whole

  mutable std::mutex mutex;
  std::condition_variable changed;
  std::string text;  // not yet taken
  bool ended = false;
  std::exception_ptr failure;
  std::atomic<bool> cancelled{false};

  RequestOptions options;
  std::vector<int32_t> prompt;
  int64_t kv_bytes = 0;  // that it may need
  int64_t arrived = 0;   // turn of the scheduler
  Completion completion;
  Emitter emitter;
  std::unique_ptr<SessionState> session;  // from admission to the end
};

}  // namespace forerun
