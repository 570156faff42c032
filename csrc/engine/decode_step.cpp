// One step: draft tree -> tree mask -> target forward -> verify -> commit KV -> emit, the calls in
// the order of the path.

#include <algorithm>
#include <chrono>
#include <string>

#include "engine/features.h"
#include "engine/session_state.h"

namespace forerun {
namespace {

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

Load plain_load(std::span<SessionState* const> sessions) {
  Load load;
  for (const SessionState* session : sessions) load.add(1, session->context());
  return load;
}

// Prunes the proposed trees together; returns the load of the forward.
Load fit(EngineState& engine, std::span<SessionState* const> sessions, const Load& plain) {
  engine.to_fit.clear();
  for (SessionState* session : sessions) {
    engine.to_fit.push_back({&session->controller, &session->tree, session->context(),
                             session->longest, session->draft_ms});
  }
  const int32_t count = static_cast<int32_t>(sessions.size());
  engine.fitter.fit(engine.known, plain, engine.to_fit, kLogitRows - count);
  Load load = plain;
  for (SessionState* session : sessions) {
    load.add_rows(session->tree.drafted(), session->context());
  }
  return load;
}

// Asks the target's back end to choose its token after every node; false: the host has to, since
// somebody needs the logits or the back end does not have such a draw.
bool choose(EngineState& engine, std::span<SessionState* const> sessions, const Forward& out) {
  engine.draws.clear();
  for (const SessionState* session : sessions) {
    if (session->verifier->needs_logits() || session->logprobs >= 0 || session->features.top_k > 0)
      return false;
    for (const int32_t depth : session->tree.depth()) {
      const auto draw = session->sampler.draw(int64_t{session->context()} + depth);
      if (!draw || !engine.backend->can_choose(*draw, out.logits.cols)) return false;
      engine.draws.push_back(*draw);
    }
  }
  engine.chosen.resize(engine.draws.size());
  engine.backend->choose(out.logits, engine.draws, engine.chosen);
  return true;
}

// What the verifiers read of a forward: tokens where the back end chooses them, else logits.
NodeLogits readable(EngineState& engine, std::span<SessionState* const> sessions,
                    const Forward& out) {
  if (!choose(engine, sessions, out)) {
    return engine.node_logits(out, sessions.front()->verifier->needs_hidden());
  }
  NodeLogits logits;
  logits.chosen = engine.chosen.data();
  return logits;
}

// While the target verifies, drafters with a device of their own go on; not beyond the step.
class DraftingAhead {
 public:
  explicit DraftingAhead(std::span<SessionState* const> sessions) : sessions_(sessions) {
    for (SessionState* session : sessions_) {
      if (session->drafter) session->drafter->start_ahead(session->tree);
    }
  }
  ~DraftingAhead() { end(); }
  // Of one sequence, what is at hand may be finished once it is known to be of use; the drafters of
  // several share a device, which they now need one after another.
  void verified() {
    if (sessions_.size() > 1) end();
  }
  DraftingAhead(const DraftingAhead&) = delete;
  DraftingAhead& operator=(const DraftingAhead&) = delete;

 private:
  void end() {
    for (SessionState* session : sessions_) {
      if (session->drafter) session->drafter->end_ahead();
    }
  }
  std::span<SessionState* const> sessions_;
};

}  // namespace

std::vector<StepOutcome> decode_step(EngineState& engine, std::span<SessionState* const> sessions) {
  if (sessions.empty()) return {};
  const int32_t count = static_cast<int32_t>(sessions.size());
  if (count > kLogitRows / 2) {
    throw Error(ErrorKind::kBadArgument, std::to_string(count) + " sessions in one step, at most " +
                                             std::to_string(kLogitRows / 2));
  }
  for (SessionState* session : sessions) session->check_ready();
  for (SessionState* session : sessions) session->prefill();

  const std::lock_guard lock(engine.step_mutex);
  TraceScope step = engine.step("step");
  const Load plain = plain_load(sessions);
  for (SessionState* session : sessions) session->propose(kLogitRows / count, plain);
  const Load load = fit(engine, sessions, plain);
  engine.batch.clear();
  for (SessionState* session : sessions) engine.batch.add_tree(session->cache, session->tree);
  step.span.rows = engine.batch.rows();

  DraftingAhead ahead(sessions);
  const auto start = std::chrono::steady_clock::now();
  const Forward out = engine.forward();
  ahead.verified();
  NodeLogits logits = readable(engine, sessions, out);
  Controller::Spent spent{plain, load, milliseconds_since(start)};
  engine.known.observe_forward(load, spent.verify_ms, load.rows == plain.rows);

  std::vector<StepOutcome> outcomes;
  outcomes.reserve(sessions.size());
  int32_t row = 0;
  for (SessionState* session : sessions) {
    StepOutcome& outcome = outcomes.emplace_back();
    try {
      outcome.result = session->settle({out, row, logits}, spent);
    } catch (...) {
      outcome.failure = std::current_exception();
    }
    row += session->tree.size();
    logits.skip(session->tree.size());
  }
  return outcomes;
}

// The drafters that take time, for the controller to choose from.
void SessionState::list_offers() {
  offers.clear();
  const auto add = [this](const Drafter& part) {
    if (part.expected_ms(1) <= 0.0) return;
    offers.push_back({part.source(), part.start_ms(context()),
                      [&part](int32_t nodes) { return part.expected_ms(nodes); }});
  };
  for (const auto& part : drafter->parts()) add(*part);
  if (drafter->parts().empty()) add(*drafter);
}

void SessionState::propose(int32_t row_limit, const Load& plain) {
  const TraceScope stage = engine->stage("draft");
  tree.reset(tokens.back());
  longest = std::min({most, room(), kLogitRows}) - 1;
  const bool drafts = drafter && longest > 0;
  if (drafts) introduce();  // once for a context: no cost of this step
  const auto start = std::chrono::steady_clock::now();
  if (!drafts) {
    controller.allowance(engine->known, {plain, context(), 0}, {});
  } else {
    list_offers();
    const auto allowed = controller.allowance(engine->known, {plain, context(), longest}, offers);
    const bool takes_time = drafter->parts().empty() && !offers.empty();
    const int32_t nodes = takes_time ? allowed.asked_nodes : allowed.max_nodes;
    const int32_t depth = takes_time ? allowed.asked_depth : allowed.max_depth;
    if (nodes > 0) {
      const Budget budget{std::min(nodes, row_limit - 1),
                          std::min(depth, longest),
                          allowed.min_value,
                          allowed.tokens_per_ms,
                          allowed.asked,
                          allowed.asked_nodes,
                          allowed.asked_depth};
      const DraftNoise noise{sampler.seed(), sampler.sampling().temperature,
                             sampler.greedy() ? DrawNeed{} : engine->need, &sampler.sampling()};
      use_drafter([&] { drafter->propose(tokens, budget, noise, tree); });
    }
  }
  draft_ms = milliseconds_since(start);
}

StepResult SessionState::settle(const StepRows& rows, const Controller::Spent& forward) {
  const auto start = std::chrono::steady_clock::now();
  const int64_t position = static_cast<int64_t>(tokens.size());
  {
    TraceScope stage = engine->stage("verify");
    verifier->verify(tree, rows.logits, position, sampler, verdict);
    stage.span.bytes =
        static_cast<int64_t>(verdict.path.size() * sizeof(float)) * rows.logits.vocab;
  }
  cut_at_end_token();

  StepResult result;
  if (recording) record(rows);
  emit(rows.logits, result);
  {
    const TraceScope stage = engine->stage("commit");
    cache.commit(verdict.path);
  }
  learn(rows, forward, result.tokens);

  stats.decode_seconds += (draft_ms + forward.verify_ms + milliseconds_since(start)) * 1e-3;
  return result;
}

// An accepted end token ends the text there, as it does in plain decoding: nodes below it are
// dropped.
void SessionState::cut_at_end_token() {
  for (size_t i = 1; i < verdict.path.size(); ++i) {
    const int32_t token = tree.token()[static_cast<size_t>(verdict.path[i])];
    if (!engine->tokenizer->is_end(token)) continue;
    verdict.path.resize(i);
    verdict.bonus = token;
    history_is_current = false;
    return;
  }
}

// Features of the accepted path, as those of a text that was read.
void SessionState::record(const StepRows& rows) {
  const HiddenRows taps =
      engine->for_record(engine->hidden_rows(rows.out, rows.first, tree.size()));
  features.tokens += static_cast<int32_t>(verdict.path.size());
  for (const int32_t node : verdict.path) {
    if (taps.rows > 0) append_states(taps.only_row(node), features);
    if (features.top_k == 0) continue;
    Tensor logits = rows.out.logits.first_rows(1);
    logits.data = rows.out.logits.row(rows.first + node);
    append_laws(*engine, logits, rows.logits.row(node).data(), rows.logits.stride, features);
  }
}

void SessionState::emit(const NodeLogits& logits, StepResult& result) {
  const TraceScope stage = engine->stage("emit");
  result.tokens.reserve(verdict.path.size());
  for (size_t i = 0; i < verdict.path.size(); ++i) {
    const bool last = i + 1 == verdict.path.size();
    const int32_t token =
        last ? verdict.bonus : tree.token()[static_cast<size_t>(verdict.path[i + 1])];
    result.tokens.push_back(token);
    tokens.push_back(token);
    emitted.push_back(1);
    if (logprobs >= 0) {
      logprob_reader.read(logits.row(verdict.path[i]), token, logprobs,
                          result.logprobs.emplace_back());
    }
  }
  if (engine->tokenizer->is_end(verdict.bonus)) {
    result.state = StepState::kEnd;
  } else if (room() == 0) {
    result.state = StepState::kContextFull;
  }
  if (!history_is_current) rebuild_history();
}

// What drafters and controller learn from the step, and the counts.
void SessionState::learn(const StepRows& rows, Controller::Spent spent,
                         std::span<const int32_t> emitted_now) {
  const TraceScope stage = engine->stage("observe");
  const auto start = std::chrono::steady_clock::now();
  const int32_t depth = tree.max_depth(), accepted = verdict.accepted();
  if (drafter && drafter_knows_context) {
    Observation truth{&tree, verdict.path, verdict.bonus};
    truth.k = std::min(drafter->wanted_topk(), rows.out.logits.cols);
    truth.temperature = sampler.sampling().temperature;
    if (truth.k > 0) {
      Tensor of_tree = rows.out.logits.first_rows(tree.size());
      of_tree.data = rows.out.logits.row(rows.first);
      topk_ids.resize(static_cast<size_t>(tree.size() * truth.k));
      topk_values.resize(topk_ids.size());
      engine->backend->top_k(of_tree, truth.k, topk_ids, topk_values);
      truth.node_topk = topk_ids;
      truth.node_logits = topk_values;
    }
    truth.hidden = engine->for_drafter(engine->hidden_rows(rows.out, rows.first, tree.size()));
    keep_failure([&] { drafter->observe(tokens, truth); });
    const int32_t all_drafted = spent.load.rows - spent.plain.rows;
    spent.share = static_cast<double>(tree.drafted()) / std::max(all_drafted, 1);
    spent.draft_ms = draft_ms;
    spent.learn_ms = milliseconds_since(start);
    controller.observe(engine->known, tree, verdict.path, emitted_now, spent);
  }
  stats.steps += 1;
  stats.tokens += accepted + 1;
  stats.drafted += tree.drafted();
  stats.accepted += accepted;
  stats.grow(static_cast<size_t>(depth));
  for (int32_t d = 0; d < depth; ++d) {
    stats.tried_by_depth[static_cast<size_t>(d)] += 1;
    stats.accepted_by_depth[static_cast<size_t>(d)] += d < accepted ? 1 : 0;
  }
  stats.draft_seconds += draft_ms * 1e-3;
  stats.verify_seconds += spent.verify_ms * 1e-3;
}

}  // namespace forerun
