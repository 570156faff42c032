// One step: draft tree -> tree mask -> target forward -> verify -> commit KV -> emit, the calls in
// the order of the path.

#include <algorithm>
#include <chrono>
#include <string>

#include "engine/session_state.h"

namespace forerun {
namespace {

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

}  // namespace

std::vector<StepResult> decode_step(EngineState& engine, std::span<SessionState* const> sessions,
                                    int32_t most) {
  if (sessions.empty()) return {};
  if (sessions.size() > kLogitRows / 2) {
    throw Error(ErrorKind::kBadArgument, std::to_string(sessions.size()) +
                                             " sessions in one step, at most " +
                                             std::to_string(kLogitRows / 2));
  }
  for (SessionState* session : sessions) session->check_ready(most);
  const std::lock_guard lock(engine.step_mutex);
  const int32_t row_limit = kLogitRows / static_cast<int32_t>(sessions.size());

  for (SessionState* session : sessions) {
    while (session->prefill_chunk()) {
    }
  }
  TraceScope step = engine.step("step");
  engine.batch.clear();
  for (SessionState* session : sessions) {
    engine.batch.add_tree(session->cache, session->draft(most, row_limit));
  }
  step.span.rows = engine.batch.rows();

  const auto start = std::chrono::steady_clock::now();
  const Forward out = engine.forward();
  const double verify_ms = milliseconds_since(start);
  engine.costs.observe(engine.batch.rows(), verify_ms);

  std::vector<StepResult> results;
  results.reserve(sessions.size());
  int32_t row = 0;
  for (SessionState* session : sessions) {
    results.push_back(session->settle(out, row, verify_ms));
    row += session->tree.size();
  }
  return results;
}

const DraftTree& SessionState::draft(int32_t most, int32_t row_limit) {
  const TraceScope stage = engine->stage("draft");
  const auto start = std::chrono::steady_clock::now();
  tree.reset(tokens.back());
  const int32_t longest =
      std::min({most, room(), row_limit}) - 1;  // drafted tokens that could still be emitted
  if (drafter && longest > 0) {
    if (!drafter_knows_context) drafter->begin(tokens);
    drafter_knows_context = true;
    const auto allowed = controller.allowance(
        engine->costs, longest, [&](int32_t nodes) { return drafter->expected_ms(nodes); });
    if (allowed.max_nodes > 0) {
      const Budget budget{std::min(allowed.max_nodes, row_limit - 1),
                          std::min(allowed.max_depth, longest), allowed.min_value,
                          allowed.tokens_per_ms};
      const DraftNoise noise{sampler.seed(), sampler.sampling().temperature,
                             sampler.greedy() ? DrawNeed{} : engine->need, &sampler.sampling()};
      drafter->propose(tokens, budget, noise, tree);
      controller.fit(engine->costs, milliseconds_since(start), tree);
    }
  }
  draft_ms = milliseconds_since(start);
  return tree;
}

StepResult SessionState::settle(const Forward& out, int32_t first_row, double verify_ms) {
  const auto start = std::chrono::steady_clock::now();
  const int64_t position = static_cast<int64_t>(tokens.size());
  const NodeLogits logits{engine->readable(out) + int64_t{first_row} * out.logits.stride,
                          out.logits.stride, out.logits.cols};
  {
    TraceScope stage = engine->stage("verify");
    verifier->verify(tree, logits, position, sampler, verdict);
    stage.span.bytes = static_cast<int64_t>(verdict.path.size() * sizeof(float)) * logits.vocab;
  }
  cut_at_end_token();

  StepResult result;
  emit(logits, result);
  {
    const TraceScope stage = engine->stage("commit");
    cache.commit(verdict.path);
  }
  observe(out, first_row, verify_ms);

  stats.decode_seconds += (draft_ms + verify_ms + milliseconds_since(start)) * 1e-3;
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

void SessionState::observe(const Forward& out, int32_t first_row, double verify_ms) {
  const TraceScope stage = engine->stage("observe");
  const int32_t depth = tree.max_depth(), accepted = verdict.accepted();
  if (drafter && drafter_knows_context) {
    Observation truth{&tree, verdict.path, verdict.bonus, {}, drafter->wanted_topk()};
    if (truth.k > 0) {
      Tensor rows = out.logits.first_rows(tree.size());
      rows.data = out.logits.row(first_row);
      topk_ids.resize(static_cast<size_t>(tree.size() * truth.k));
      topk_values.resize(topk_ids.size());
      engine->backend->top_k(rows, truth.k, topk_ids, topk_values);
      truth.node_topk = topk_ids;
    }
    drafter->observe(tokens, truth);
    controller.observe(engine->costs, tree, verdict.path, draft_ms);
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
  stats.verify_seconds += verify_ms * 1e-3;
}

}  // namespace forerun
