#include "engine/session_state.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "engine/features.h"

namespace forerun {

SessionState::SessionState(std::shared_ptr<EngineState> shared, const Sampling& sampling,
                           uint64_t seed, int32_t logprobs, const std::string& tenant)
    : engine(std::move(shared)),
      cache(engine->kv_places, engine->context),
      sampler(sampling, seed, engine->target->config().vocab),
      verifier(engine->new_verifier()),
      drafter(engine->new_drafter(tenant)),
      controller({engine->options.max_draft, engine->options.fixed_draft}),
      logprobs(logprobs) {
  tree.reserve(kLogitRows);
  const size_t ranked = drafter ? static_cast<size_t>(drafter->wanted_topk() * kLogitRows) : 0;
  topk_ids.reserve(ranked);
  topk_values.reserve(ranked);
  stats.lossy = !verifier->lossless();
  controller.reserve();
  if (drafter) drafter->borrow(cache);
}

SessionState::SessionState(const SessionState& other)
    : engine(other.engine),
      tokens(other.tokens),
      emitted(other.emitted),
      cache(other.cache.fork()),
      sampler(other.sampler),
      history_is_current(other.history_is_current),
      verifier(engine->new_verifier()),
      drafter(other.drafter ? other.drafter->fork() : nullptr),
      drafter_knows_context(other.drafter_knows_context),
      draft_failure(other.draft_failure),
      controller(other.controller),
      logprobs(other.logprobs),
      stats(other.stats) {
  if (drafter) drafter->borrow(cache);
}

SessionState::~SessionState() = default;

void check_tokens(const EngineState& engine, std::span<const int32_t> tokens, int32_t present) {
  const int32_t vocab = engine.target->config().vocab;
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocab) {
      throw Error(ErrorKind::kBadArgument, "token id " + std::to_string(token) +
                                               " is outside the vocabulary of " +
                                               std::to_string(vocab));
    }
  }
  const int64_t all = static_cast<int64_t>(tokens.size()) + present;
  if (all > engine.context) {
    throw Error(ErrorKind::kBadArgument,
                std::to_string(all) + " tokens do not fit the context of " +
                    std::to_string(engine.context) + "; shorten the prompt or raise `context`");
  }
}

void SessionState::start_record() {
  recording = engine->records();
  features = {};
  features.top_k = engine->options.record_top_k;
  features.width =
      static_cast<int32_t>(engine->options.record_taps.size()) * engine->target->config().width;
}

Features SessionState::take_record(size_t text) {
  Features out = std::move(features);
  out.tokens = std::min(out.tokens, std::max(static_cast<int32_t>(text) - 1, 0));
  out.first_law = static_cast<int32_t>(std::max<int64_t>(stats.prompt_tokens - 1, 0));
  out.states.resize(static_cast<size_t>(out.tokens) * static_cast<size_t>(out.width));
  out.ids.resize(static_cast<size_t>(out.laws()) * static_cast<size_t>(out.top_k));
  out.logprobs.resize(out.ids.size());
  return out;
}

void SessionState::append(std::span<const int32_t> added) {
  check_tokens(*engine, added, context());
  const bool first = tokens.empty();
  tokens.insert(tokens.end(), added.begin(), added.end());
  emitted.insert(emitted.end(), added.size(), 0);
  for (const int32_t token : added) sampler.push(token, false);
  drafter_knows_context = false;
  stats.prompt_tokens += static_cast<int64_t>(added.size());
  if (first && !recording) stats.reused_tokens += engine->prefixes->restore(tokens, cache);
}

void SessionState::rewind(int32_t length) {
  if (length < 0 || length > static_cast<int32_t>(tokens.size())) {
    throw Error(ErrorKind::kBadArgument, "rewind to " + std::to_string(length) +
                                             " of a session of " + std::to_string(tokens.size()) +
                                             " tokens");
  }
  tokens.resize(static_cast<size_t>(length));
  emitted.resize(static_cast<size_t>(length));
  // The new last token becomes the root again, so its row must be missing.
  cache.rewind(std::min(cache.length(), std::max(length - 1, 0)));
  rebuild_history();
  if (drafter && drafter_knows_context) {
    if (tokens.empty()) {
      drafter_knows_context = false;
    } else {
      keep_failure([&] { drafter->rewind(tokens); });
    }
  }
}

void SessionState::rebuild_history() {
  sampler.clear_history();
  for (size_t i = 0; i < tokens.size(); ++i) sampler.push(tokens[i], emitted[i] != 0);
  history_is_current = true;
}

void SessionState::check_ready() const {
  if (tokens.empty())
    throw Error(ErrorKind::kBadArgument, "the session is empty: append a prompt first");
  if (most < 1)
    throw Error(ErrorKind::kBadArgument, "a step of at most " + std::to_string(most) + " tokens");
  if (room() < 1) {
    throw Error(ErrorKind::kBadArgument,
                "the context of " + std::to_string(engine->context) +
                    " tokens is full; rewind the session or raise `context`");
  }
}

void SessionState::introduce() {
  if (drafter_knows_context) return;
  use_drafter([&] {
    drafter->begin(tokens);
    drafter_knows_context = true;
  });
}

void SessionState::give_up_drafter() {
  const Error why = *std::exchange(draft_failure, std::nullopt);
  drafter.reset();
  drafter_knows_context = false;
  stats.draft_failure = why.what();
  throw Error(why.kind(), std::string("the draft failed: ") + why.what() +
                              "; the session can go on, without it");
}

bool SessionState::prefill_chunk(int32_t most_rows) {
  const int32_t missing = static_cast<int32_t>(tokens.size()) - 1 - cache.length();
  if (missing <= 0) return false;
  introduce();
  const auto start = std::chrono::steady_clock::now();
  const int32_t rows = std::min({missing, most_rows, kPrefillRows});
  Batch& batch = engine->batch;
  batch.clear();
  batch.add_causal(
      cache,
      std::span(tokens).subspan(static_cast<size_t>(cache.length()), static_cast<size_t>(rows)), 0);
  const TraceScope scope = engine->step("prefill", rows);
  const Forward out = engine->forward();
  const int32_t first = cache.length();
  cache.commit_rows(rows);
  const HiddenRows taps = engine->hidden_rows(out, 0, rows);
  if (recording) {
    append_states(engine->for_record(taps), features);
    features.tokens += rows;
  }
  use_drafter([&] { drafter->read(tokens, first, engine->for_drafter(taps)); });
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  stats.prefill_seconds += taken.count();
  return rows < missing;
}

void SessionState::prefill(const Watch& watch) {
  for (bool more = true; more;) {
    if (watch) watch();
    const std::lock_guard lock(engine->step_mutex);
    more = prefill_chunk();
  }
}

void SessionState::finish() {
  const std::lock_guard lock(engine->step_mutex);
  engine->prefixes->save(tokens, cache);
  engine->known.observe_answer(static_cast<double>(stats.tokens));
  engine->stats.add(stats);
  if (drafter) keep_failure([&] { drafter->finish(tokens, emitted); });
}

}  // namespace forerun
