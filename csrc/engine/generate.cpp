// A request from prompt to text: steps of one session until a stop rule fires, text streamed as it
// becomes valid.

#include <algorithm>

#include "engine/engine.h"
#include "engine/session_state.h"
#include "text/stream.h"

namespace forerun {
namespace {

// Turns emitted tokens into streamed text and knows when the request is over.
class Emitter {
 public:
  Emitter(const Tokenizer& tokenizer, const GenerateOptions& options, Completion& out)
      : tokenizer_(tokenizer), options_(options), stops_(options.stop), out_(out) {}

  bool done() const { return !out_.finish_reason.empty(); }
  void finish(const char* reason) {
    if (!done()) out_.finish_reason = reason;
  }

  // Takes the tokens of a step up to the one that ends the request; the others are dropped.
  void take(const StepResult& step) {
    std::string piece;
    for (size_t i = 0; i < step.tokens.size() && !done(); ++i) {
      const int32_t token = step.tokens[i];
      out_.tokens.push_back(token);
      if (i < step.logprobs.size()) out_.logprobs.push_back(step.logprobs[i]);
      if (tokenizer_.is_end(token)) {
        finish("stop");
      } else {
        piece += stops_.push(utf8_.push(tokenizer_.token_bytes(token)));
        if (stops_.stopped()) finish("stop");
      }
      if (static_cast<int32_t>(out_.tokens.size()) >= options_.max_tokens) finish("length");
    }
    if (step.state == StepState::kContextFull) finish("context");
    show(piece);
  }

  void flush() {
    std::string rest;
    if (!stops_.stopped()) {
      rest = stops_.push(utf8_.finish());
      rest += stops_.stopped() ? "" : stops_.finish();
    }
    if (!rest.empty()) show(rest);
  }

  bool show(const std::string& piece) {
    out_.text += piece;
    if (options_.on_text && !options_.on_text(piece)) {
      finish("cancelled");
      return false;
    }
    return true;
  }

 private:
  const Tokenizer& tokenizer_;
  const GenerateOptions& options_;
  Utf8Stream utf8_;
  StopMatcher stops_;
  Completion& out_;
};

void check(const GenerateOptions& options) {
  if (options.max_tokens < 0) {
    throw Error(ErrorKind::kBadArgument,
                "max_tokens is " + std::to_string(options.max_tokens) + ", expected >= 0");
  }
  if (options.logprobs > 1000) {
    throw Error(ErrorKind::kBadArgument,
                "logprobs is " + std::to_string(options.logprobs) + ", expected <= 1000");
  }
}

// The prompt's rows, with a chance to cancel between chunks.
void prefill(SessionState& session, Emitter& emitter) {
  for (bool more = true; more && !emitter.done();) {
    {
      const std::lock_guard lock(session.engine->step_mutex);
      more = session.prefill_chunk();
    }
    emitter.show("");
  }
}

}  // namespace

Completion Engine::generate(std::span<const int32_t> prompt, const GenerateOptions& options) {
  check(options);
  Completion out;
  Emitter emitter(*state_->tokenizer, options, out);
  SessionState session(state_, options.sampling, options.seed, options.logprobs, options.tenant);
  session.append(prompt);
  if (options.max_tokens == 0) emitter.finish("length");
  if (!emitter.done()) {
    if (session.tokens.empty()) {
      throw Error(ErrorKind::kBadArgument,
                  "the prompt is empty and the model has no BOS token to start from");
    }
    if (session.room() == 0) emitter.finish("context");
    prefill(session, emitter);
  }
  SessionState* const only = &session;
  while (!emitter.done()) {
    const int32_t left = options.max_tokens - static_cast<int32_t>(out.tokens.size());
    emitter.take(decode_step(*state_, {&only, 1}, left).front());
  }
  emitter.flush();
  session.finish();
  out.stats = session.stats;
  return out;
}

Completion Engine::generate(std::string_view prompt, const GenerateOptions& options) {
  const Tokenizer& tokenizer = *state_->tokenizer;
  std::vector<int32_t> tokens =
      tokenizer.encode(prompt, {options.add_special, options.parse_special});
  if (tokens.empty() && tokenizer.bos() >= 0) tokens.push_back(tokenizer.bos());
  return generate(tokens, options);
}

}  // namespace forerun
