// A request from prompt to text: steps of one session until a stop rule fires, text streamed as it
// becomes valid.

#include "engine/emitter.h"
#include "engine/engine.h"
#include "engine/session_state.h"

namespace forerun {
namespace {

// The prompt's rows, with a chance to cancel between chunks.
void prefill(SessionState& session, Emitter& emitter) {
  for (bool more = true; more && !emitter.done();) {
    despite_its_draft(session, [&] {
      const std::lock_guard lock(session.engine->step_mutex);
      more = session.prefill_chunk();
    });
    emitter.show("");
  }
}

}  // namespace

Completion Engine::generate(std::span<const int32_t> prompt, const GenerateOptions& options) {
  check_request(options);
  Completion out;
  Emitter emitter(*state_->tokenizer, options, out);
  SessionState session(state_, options.sampling, options.seed, options.logprobs, options.tenant);
  session.start_record();
  session.append(prompt);
  if (options.max_tokens == 0) emitter.finish("length");
  if (!emitter.done()) {
    if (session.tokens.empty()) {
      throw Error(ErrorKind::kBadArgument, kEmptyPrompt);
    }
    if (session.room() == 0) emitter.finish("context");
    prefill(session, emitter);
  }
  SessionState* const only = &session;
  while (!emitter.done()) {
    session.most = emitter.left();
    despite_its_draft(session, [&] {
      emitter.take(std::move(decode_step(*state_, {&only, 1}).front()).value());
    });
  }
  emitter.flush();
  session.finish();
  out.features = session.take_record(prompt.size() + out.tokens.size());
  out.stats = session.stats;
  return out;
}

std::vector<int32_t> encode_prompt(const EngineState& engine, std::string_view prompt,
                                   const GenerateOptions& options) {
  const Tokenizer& tokenizer = *engine.tokenizer;
  std::vector<int32_t> tokens =
      tokenizer.encode(prompt, {options.add_special, options.parse_special});
  if (tokens.empty() && tokenizer.bos() >= 0) tokens.push_back(tokenizer.bos());
  return tokens;
}

Completion Engine::generate(std::string_view prompt, const GenerateOptions& options) {
  const std::vector<int32_t> tokens = encode_prompt(*state_, prompt, options);
  return generate(tokens, options);
}

}  // namespace forerun
