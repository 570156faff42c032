#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "engine/options.h"

namespace forerun {

struct Completion;
struct RequestState;

// A request among others (Engine::submit). `on_text`, if set, is called on the engine's worker
// thread: it must not destroy the engine, and what it throws ends this request alone.
struct RequestOptions : GenerateOptions {
  int32_t priority = 0;         // the larger goes first; waiting raises it
  bool wait_for_place = false;  // when the queue is full: wait, instead of Error(kBusy)
};

// A request on its way: the one end of a stream of text. Thread-safe. It may outlive the engine,
// whose end cancels it. Destroying it cancels it too, since nobody could read the text.
class FORERUN_API Request {
 public:
  ~Request();
  Request(Request&&) noexcept;
  Request& operator=(Request&&) noexcept;

  // Waits for text and takes all there is, valid UTF-8; nothing when the request has ended. Throws
  // what ended it, after the text.
  std::optional<std::string> next();
  // Waits at most so long; true when next() would return at once.
  bool wait_for_text(double seconds);

  bool wait_for_end(double seconds);  // likewise; true when it has ended
  const Completion& wait();           // until it has ended; throws what ended it
  bool ended() const;
  void cancel();  // at its next step; it then ends as "cancelled"

 private:
  friend class Scheduler;
  explicit Request(std::shared_ptr<RequestState> state);
  std::shared_ptr<RequestState> state_;
};

}  // namespace forerun
