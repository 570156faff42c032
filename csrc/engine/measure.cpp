// What this machine charges: T_v[n] for the controller, and the figures of `forerun bench`.

#include <algorithm>
#include <chrono>

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
  engine.backend->synchronize();
}

double forward_tree_ms(EngineState& engine, KvCache& cache, const DraftTree& tree) {
  return time_ms([&] {
    const TraceScope scope = engine.step("measure", tree.size());
    engine.batch.clear();
    engine.batch.add_tree(cache, tree);
    engine.forward();
    engine.backend->synchronize();
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

void EngineState::measure_costs() {
  KvCache cache(*backend, kv_layout, context);
  fill(*this, cache, std::min(context / 2, 32));
  for (const int32_t rows : {1, 2, 4, 8, 16, 32}) {
    const DraftTree tree = filler_tree(*this, rows);
    forward_tree_ms(*this, cache, tree);
    costs.set(rows,
              std::min(forward_tree_ms(*this, cache, tree), forward_tree_ms(*this, cache, tree)));
  }
}

std::vector<double> Engine::measure_verify(int32_t rows, int32_t context, int32_t repeats) {
  check_range("rows", rows, 1, kLogitRows);
  check_range("context", context, 0, state_->context - rows);
  check_range("repeats", repeats, 1, 100000);
  const std::lock_guard lock(state_->step_mutex);
  KvCache cache(*state_->backend, state_->kv_layout, state_->context);
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
    KvCache cache(*state_->backend, state_->kv_layout, state_->context);
    time = time_ms([&] { fill(*state_, cache, tokens); });
  }
  return times;
}

}  // namespace forerun
