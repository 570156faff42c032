#include "engine/engine.h"

#include <algorithm>

#include "engine/engine_state.h"
#include "engine/scheduler.h"
#include "engine/session_state.h"

namespace forerun {

Engine::Engine(std::shared_ptr<EngineState> state) : state_(std::move(state)) {}
Engine::~Engine() = default;

std::unique_ptr<Engine> Engine::load(const EngineOptions& options) {
  return std::make_unique<Engine>(std::make_shared<EngineState>(options));
}

Session Engine::session(const Sampling& sampling, uint64_t seed, int32_t logprobs,
                        const std::string& tenant) {
  return Session(std::make_unique<SessionState>(state_, sampling, seed, logprobs, tenant));
}

std::vector<StepResult> Engine::step(std::span<Session* const> sessions) {
  std::vector<SessionState*> states;
  for (Session* session : sessions) {
    if (session == nullptr || !session->state_) {
      throw Error(ErrorKind::kBadArgument, "no session, expected one of this engine");
    }
    if (session->state_->engine != state_)
      throw Error(ErrorKind::kBadArgument, "a session of another engine");
    if (std::find(states.begin(), states.end(), session->state_.get()) != states.end()) {
      throw Error(ErrorKind::kBadArgument, "the same session twice in one step");
    }
    states.push_back(session->state_.get());
    states.back()->most = INT32_MAX;
  }
  std::vector<StepResult> results;
  for (StepOutcome& outcome : decode_step(*state_, states)) {
    results.push_back(std::move(outcome).value());
  }
  return results;
}

Request Engine::submit(std::span<const int32_t> prompt, const RequestOptions& options) {
  std::call_once(scheduler_made_, [this] { scheduler_ = std::make_unique<Scheduler>(state_); });
  return scheduler_->submit({prompt.begin(), prompt.end()}, options);
}

Request Engine::submit(std::string_view prompt, const RequestOptions& options) {
  return submit(encode_prompt(*state_, prompt, options), options);
}

std::vector<int32_t> Engine::encode(std::string_view text, bool add_special,
                                    bool parse_special) const {
  return state_->tokenizer->encode(text, {add_special, parse_special});
}

std::string Engine::decode(std::span<const int32_t> tokens, bool special) const {
  return state_->tokenizer->decode(tokens, special);
}

int32_t Engine::bos_token() const { return state_->tokenizer->bos(); }
int32_t Engine::eos_token() const { return state_->tokenizer->eos(); }
std::vector<int32_t> Engine::end_tokens() const { return state_->tokenizer->end_tokens(); }
std::string Engine::token_text(int32_t token) const {
  return state_->tokenizer->token_bytes(token, true);
}
std::string Engine::chat_template() const { return state_->tokenizer->chat_template(); }

EngineInfo Engine::info() const {
  const Model& target = *state_->target;
  const int64_t kv_bytes = state_->kv_layout.page_bytes() / KvLayout::kPageSlots;
  std::vector<std::string> drafters;
  for (const DraftPart& part : state_->draft_plan.parts) drafters.push_back(part.name);
  return {target.config().architecture,
          state_->options.target,
          state_->options.draft,
          state_->backend->description(),
          std::move(drafters),
          placement_text(state_->placement),
          target.parameters(),
          target.weights_bytes(),
          target.config().layers,
          target.config().vocab,
          state_->context,
          state_->backend->threads(),
          state_->options.kv_type,
          kv_bytes};
}

Stats Engine::stats() const {
  const std::lock_guard lock(state_->step_mutex);
  return state_->stats;
}

std::vector<TraceSpan> Engine::profile() {
  if (!state_->recorder) {
    throw Error(ErrorKind::kBadArgument, "nothing is recorded: load the engine with `profile`");
  }
  const std::lock_guard lock(state_->step_mutex);
  return state_->recorder->take();
}

void Engine::save_drafts(const std::string& path) const {
  const std::lock_guard lock(state_->step_mutex);
  state_->draft_shared.save(path);
}

void Engine::replace_head(const std::string& path) { state_->replace_head(path); }

Methods methods() { return {drafter_methods(), policy_methods(), verifier_methods()}; }

const char* version() { return FORERUN_VERSION; }

}  // namespace forerun
