#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/logprobs.h"
#include "engine/options.h"
#include "engine/stats.h"

namespace forerun {

struct EngineState;
struct SessionState;

enum class StepState { kRunning, kEnd, kContextFull };

// What one step emitted: at least one token while running.
struct StepResult {
  std::vector<int32_t> tokens;
  StepState state =
      StepState::kRunning;  // kEnd: the last token is an end token; kContextFull: no room is left
  std::vector<Logprobs> logprobs;  // one per token when asked for
};

// One mutable timeline: tokens, their keys and values, the drafter's state. Cheap to make; one
// thread at a time. Several sessions of an engine may run in different threads.
class FORERUN_API Session {
 public:
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  // Adds tokens of a prompt or of a user's turn. Error(kBadArgument) for an id outside the
  // vocabulary or when the context would overflow (nothing is added then).
  void append(std::span<const int32_t> tokens);
  void append(std::string_view text, bool add_special = false, bool parse_special = true);

  // One decode step: the tokens that plain decoding would emit next, one or several. At most `most`
  // tokens. Error(kBadArgument) when the session is empty.
  StepResult step(int32_t most = INT32_MAX);

  void rewind(
      int32_t length);   // forgets the tokens after the first `length`; as if they had never been
  Session fork() const;  // an independent copy; full pages are shared until somebody writes

  const std::vector<int32_t>& tokens() const;
  int32_t length() const { return static_cast<int32_t>(tokens().size()); }
  const Stats& stats() const;

 private:
  friend class Engine;
  explicit Session(std::unique_ptr<SessionState> state);
  std::unique_ptr<SessionState> state_;
};

}  // namespace forerun
