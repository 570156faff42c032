// What this machine charges: T_v[n] for the controller, and the figures of `forerun bench`.

#include <algorithm>
#include <chrono>
#include <map>

#include "engine/engine.h"
#include "engine/engine_state.h"

namespace forerun {
namespace {

// Any tokens will do: the time of a forward does not depend on their values.
int32_t filler_token(const EngineState& engine, int32_t i) {
  return static_cast<int32_t>((int64_t{i} * 7919 + 13) % engine.target->config().vocab);
}

// Half of the rows continue a chain, the others branch: a tree whose ancestors are not all in
// place.
DraftTree filler_tree(const EngineState& engine, int32_t rows) {
  DraftTree tree;
  tree.reset(filler_token(engine, 0));
  for (int32_t i = 1; i < rows; ++i) {
    tree.add(i % 2 == 1 ? i - 1 : i - 2, filler_token(engine, i), 1.0F, DraftSource::kOther);
  }
  return tree;
}

template <typename Run>
double time_ms(Run&& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

void wait_for(const Model& model) {
  for (const auto& backend : model.backends()) backend->synchronize();
}

void fill(EngineState& engine, KvCache& cache, int32_t tokens) {
  std::vector<int32_t> prompt(static_cast<size_t>(tokens));
  for (int32_t i = 0; i < tokens; ++i) prompt[static_cast<size_t>(i)] = filler_token(engine, i);
  for (int32_t done = 0; done < tokens;) {
    const int32_t rows = std::min(tokens - done, kPrefillRows);
    engine.batch.clear();
    engine.batch.add_causal(
        cache, std::span(prompt).subspan(static_cast<size_t>(done), static_cast<size_t>(rows)), 0);
    const TraceScope scope = engine.step("prefill", rows);
    engine.forward();
    cache.commit_rows(rows);
    done += rows;
  }
  wait_for(*engine.target);
}

double forward_tree_ms(EngineState& engine, KvCache& cache, const DraftTree& tree) {
  return time_ms([&] {
    const TraceScope scope = engine.step("measure", tree.size());
    engine.batch.clear();
    engine.batch.add_tree(cache, tree);
    engine.forward();
    wait_for(*engine.target);
  });
}

void check_range(const char* name, int32_t value, int32_t low, int32_t high) {
  if (value < low || value > high) {
    throw Error(ErrorKind::kBadArgument, std::string(name) + " is " + std::to_string(value) +
                                             ", expected " + std::to_string(low) + " to " +
                                             std::to_string(high));
  }
}

}  // namespace

// Rounds over all sizes, the least of each counts: noise only adds, and it comes in bursts.
void EngineState::measure_costs() {
  constexpr int32_t kRows[] = {1, 2, 4, 8, 16, 32};
  constexpr int32_t kFew = 1, kMany = 8;
  const int32_t near = std::min(context / 4, 32), far = std::min(context / 2, 1024);
  KvCache cache(kv_places, context);
  fill(*this, cache, near);
  KvCache long_cache = cache.fork();
  long_cache.prepare(far - near);
  long_cache.commit_rows(far - near);  // the time does not depend on what the slots hold
  std::map<int32_t, double> best, best_far;
  const auto keep_least = [this](KvCache& kv, int32_t rows, std::map<int32_t, double>& least) {
    const double ms = forward_tree_ms(*this, kv, filler_tree(*this, rows));
    const auto [at, first] = least.emplace(rows, ms);
    if (!first) at->second = std::min(at->second, ms);
  };
  for (int round = 0; round < 3; ++round) {
    for (const int32_t rows : kRows) keep_least(cache, rows, best);
    for (const int32_t rows : {kFew, kMany}) keep_least(long_cache, rows, best_far);
  }
  const int32_t apart = std::max(far - near, 1);
  const double few = (best_far[kFew] - best[kFew]) / apart;
  const double many = (best_far[kMany] - best[kMany]) / apart;
  const double per_row = std::max((many - few) / (kMany - kFew), 0.0);
  const double per_position = std::max(few - per_row, 0.0);
  known.costs.set_context(per_position, per_row);
  for (const auto& [rows, ms] : best) {
    known.costs.set(rows, std::max(ms - (per_position + per_row * rows) * near, 0.5 * ms));
  }
}

// What a level of a draft model's tree and a token of its prompt take.
void EngineState::measure_draft_model() {
  constexpr int32_t kPrompt = 64;
  const Model& model = *draft_shared.model;
  Workspace rows(model, kPrompt, 1);
  std::vector<int32_t> prompt(kPrompt);
  for (int32_t i = 0; i < kPrompt; ++i) prompt[static_cast<size_t>(i)] = filler_token(*this, i);
  const ExitPlan plan = ExitPlan::after(model.config().exits, 1.0, model.config().layers);
  const auto forward_ms = [&](int32_t count, std::span<const int32_t> layers) {
    double least = 0.0;
    for (int round = 0; round < 3; ++round) {
      KvCache cache(model.kv_places(), context);
      const double ms = time_ms([&] {
        batch.clear();
        batch.add_causal(cache, std::span(prompt).first(static_cast<size_t>(count)), 1);
        model.forward(batch, rows, {layers});
        wait_for(model);
      });
      least = round == 0 ? ms : std::min(least, ms);
    }
    return least;
  };
  draft_shared.model_costs->set(forward_ms(1, plan.to_first_exit()),
                                forward_ms(kPrompt, plan.layers) / kPrompt);
}

// What a level of a draft head's tree and a token of its prompt take.
void EngineState::measure_draft_head() {
  constexpr int32_t kPrompt = 64;
  const DraftHead& head = *draft_shared.head;
  HeadWorkspace rows(head.backend(), head.config(), kPrompt, 1);
  const int32_t inputs = head.config().states_read() * head.config().features();
  Buffer memory = head.backend().allocate(int64_t{4} * kPrompt * inputs);
  std::vector<int32_t> prompt(kPrompt);
  for (int32_t i = 0; i < kPrompt; ++i) prompt[static_cast<size_t>(i)] = filler_token(*this, i);
  const std::vector<int32_t> read(static_cast<size_t>(kPrompt * head.config().tokens_read()),
                                  prompt[0]);
  const auto forward_ms = [&](int32_t count) {
    const auto tokens = std::span(read).first(static_cast<size_t>(count) *
                                              static_cast<size_t>(head.config().tokens_read()));
    const Tensor states(memory.floats(), count, inputs);
    double least = 0.0;
    for (int round = 0; round < 3; ++round) {
      KvCache cache(head.backend(), head.kv_layout(), context);
      const double ms = time_ms([&] {
        batch.clear();
        batch.add_causal(cache, std::span(prompt).first(static_cast<size_t>(count)), 1);
        head.forward(batch, {states, tokens, 0}, rows);
        head.backend().synchronize();
      });
      least = round == 0 ? ms : std::min(least, ms);
    }
    return least;
  };
  const auto layers = static_cast<size_t>(head.config().exit_layers());
  const double before = layers > 0 ? layers_ms(target->all_layers().first(layers), 0) : 0.0;
  draft_shared.head_costs->set(before + forward_ms(1), forward_ms(kPrompt) / kPrompt);
}

// What a level takes that goes to the first exit.
void EngineState::measure_early_exit() {
  draft_shared.exit_costs->set(layers_ms(draft_shared.exits.to_first_exit(), 1), 0.0);
}

// What these layers of the target take for a node, with its logits or without.
double EngineState::layers_ms(std::span<const int32_t> layers, int32_t logit_rows) {
  constexpr int32_t kRoot[] = {DraftTree::kRoot};
  KvCache cache(kv_places, context);
  double least = 0.0;
  for (int round = 0; round < 3; ++round) {
    const double ms = time_ms([&] {
      batch.clear();
      batch.add_nodes(cache, filler_tree(*this, 1), kRoot, logit_rows);
      target->forward(batch, *workspace, {layers, nullptr});
      wait_for(*target);
    });
    least = round == 0 ? ms : std::min(least, ms);
  }
  return least;
}

std::vector<double> Engine::measure_verify(int32_t rows, int32_t context, int32_t repeats) {
  check_range("rows", rows, 1, kLogitRows);
  check_range("context", context, 0, state_->context - rows);
  check_range("repeats", repeats, 1, 100000);
  const std::lock_guard lock(state_->step_mutex);
  KvCache cache(state_->kv_places, state_->context);
  fill(*state_, cache, context);
  const DraftTree tree = filler_tree(*state_, rows);
  forward_tree_ms(*state_, cache, tree);
  std::vector<double> times(static_cast<size_t>(repeats));
  for (double& time : times) time = forward_tree_ms(*state_, cache, tree);
  return times;
}

std::vector<double> Engine::measure_prefill(int32_t tokens, int32_t repeats) {
  check_range("tokens", tokens, 1, state_->context);
  check_range("repeats", repeats, 1, 100000);
  const std::lock_guard lock(state_->step_mutex);
  std::vector<double> times(static_cast<size_t>(repeats));
  for (double& time : times) {
    KvCache cache(state_->kv_places, state_->context);
    time = time_ms([&] { fill(*state_, cache, tokens); });
  }
  return times;
}

}  // namespace forerun
