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
class Scheduler;

enum class StepState { kRunning, kEnd, kContextFull };

// What one step emitted: at least one token while running.
struct StepResult {
  std::vector<int32_t> tokens;
  StepState state =
      StepState::kRunning;  // kEnd: the last token is an end token; kContextFull: no room is left
  std::vector<Logprobs> logprobs;  // one per token when asked for
};

// The draft tree of a step and what became of it. Node 0 is the root, the token before the step.
struct StepTree {
  struct Node {
    int32_t token = -1;
    int32_t parent = -1;  // a smaller index; -1: the root
    float score = 0.0F;   // the drafter's estimate that it is accepted, given that its parent is
    const char* source = "";  // the drafter that proposed it
  };
  std::vector<Node> nodes;    // empty before the first step
  std::vector<int32_t> path;  // accepted nodes, root first
  int32_t bonus = -1;         // the target's token after the path
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

  // Computes the keys and values of what was appended, as the next step() would do first. What was
  // computed before `watch` threw is kept.
  void prefill(const Watch& watch = {});

  // One decode step: the tokens that plain decoding would emit next, one or several. At most `most`
  // tokens. Error(kBadArgument) when the session is empty.
  StepResult step(int32_t most = INT32_MAX);

  StepTree last_tree() const;  // of the last step, a copy

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
