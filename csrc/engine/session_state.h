#pragma once

#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "draft/drafter.h"
#include "engine/engine.h"
#include "engine/engine_state.h"
#include "engine/session.h"
#include "model/kv_cache.h"
#include "sched/controller.h"
#include "tree/draft_tree.h"
#include "verify/logprobs.h"
#include "verify/verifier.h"

namespace forerun {

// The rows of one sequence in a forward.
struct StepRows {
  const Forward& out;
  int32_t first = 0;  // row of its root
  NodeLogits logits;  // where the host can read them
};

// A timeline between steps. tokens = prompt and output so far; the last one is the root of the next
// tree, its KV row is still missing, so cache.length() <= tokens.size() - 1.
struct SessionState {
  SessionState(std::shared_ptr<EngineState> engine, const Sampling& sampling, uint64_t seed,
               int32_t logprobs, const std::string& tenant = "");
  SessionState(const SessionState& other);  // fork
  ~SessionState();

  // Keeps features from now on, if the engine records; before the one prompt of a completion.
  void start_record();
  Features take_record(size_t text);  // of a text of so many tokens, none of the last one
  void append(std::span<const int32_t> added);
  void rewind(int32_t length);
  int32_t room() const { return engine->context - static_cast<int32_t>(tokens.size()); }

  void
  finish();  // hands what was learned and computed to the engine: prefix pages, acceptance, counts
  void check_ready() const;  // Error(kBadArgument) when a step cannot emit anything

  // Stages of a step, in this order, under the engine's step lock (decode_step.cpp).
  bool prefill_chunk(
      int32_t most_rows = kPrefillRows);  // rows before the root; false: all are done
  // All of them; takes the lock itself, chunk by chunk, so that others get a turn.
  void prefill(const Watch& watch = {});
  void propose(int32_t row_limit, const Load& plain);
  StepResult settle(const StepRows& rows, const Controller::Spent& forward);

  // A drafter whose device fails or is full is given up, which throws before anything of the step
  // has moved: the same step can be made without it, since plain decoding needs the target only.
  template <typename Use>
  void use_drafter(Use use) {
    if (!drafter) return;
    if (!draft_failure) keep_failure(use);
    if (draft_failure) give_up_drafter();
  }
  // As above, but what fails is thrown by the next use.
  template <typename Use>
  void keep_failure(Use use) {
    try {
      use();
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kDevice && error.kind() != ErrorKind::kOutOfMemory) throw;
      draft_failure = error;
    }
  }
  [[noreturn]] void give_up_drafter();
  void cut_at_end_token();
  void record(const StepRows& rows);
  void emit(const NodeLogits& logits, StepResult& result);
  void learn(const StepRows& rows, Controller::Spent spent, std::span<const int32_t> emitted_now);
  void introduce();    // the context to the drafter, if it does not know it
  void list_offers();  // of the drafters that take time
  int32_t context() const { return static_cast<int32_t>(tokens.size()); }
  void rebuild_history();  // the sampler's penalties, from `tokens`

  std::shared_ptr<EngineState> engine;
  std::vector<int32_t> tokens;
  std::vector<uint8_t> emitted;  // per token: 1 = written by the model, 0 = appended by the user
  KvCache cache;
  Sampler sampler;
  bool history_is_current = true;
  std::unique_ptr<Verifier> verifier;
  std::unique_ptr<Drafter> drafter;  // null: plain decoding
  bool drafter_knows_context = false;
  std::optional<Error> draft_failure;  // of the drafter in use
  Controller controller;
  std::vector<Controller::Offer> offers;
  DraftTree tree;
  int32_t most = INT32_MAX;  // tokens that the next step may emit
  int32_t longest = 0;       // drafted tokens that this step could still emit
  Verdict verdict;
  std::vector<int32_t> topk_ids;
  std::vector<float> topk_values;
  double draft_ms = 0.0;
  int32_t logprobs = -1;
  LogprobReader logprob_reader;
  bool recording = false;
  Features features;
  Stats stats;
};

// Runs `use`, a stage or a step of one session; once more, without the draft, where it threw
// because the draft was given up. stats.draft_failure says so.
template <typename Use>
void despite_its_draft(const SessionState& session, Use use) {
  const bool drafts = session.drafter != nullptr;
  try {
    use();
  } catch (const Error&) {
    if (!drafts || session.drafter) throw;
    use();
  }
}

// What a step gave one of its sessions. Whatever fails after the forward fails for one alone.
struct StepOutcome {
  StepResult result;
  std::exception_ptr failure;
  StepResult value() && {
    if (failure) std::rethrow_exception(failure);
    return std::move(result);
  }
};

// One step of several sessions in one forward; the path of csrc/README.md, top to bottom.
std::vector<StepOutcome> decode_step(EngineState& engine, std::span<SessionState* const> sessions);

// Error(kBadArgument) for an id outside the vocabulary, or more tokens than there is room for.
void check_tokens(const EngineState& engine, std::span<const int32_t> tokens, int32_t present);

std::vector<int32_t> encode_prompt(const EngineState& engine, std::string_view prompt,
                                   const GenerateOptions& options);
inline constexpr const char* kEmptyPrompt =
    "the prompt is empty and the model has no BOS token to start from";

}  // namespace forerun
