// How often some layers of the target alone would have chosen its next token: what early exit and
// skipped layers are chosen by.

#include <algorithm>
#include <numeric>
#include <string>

#include "engine/engine.h"
#include "engine/session_state.h"

namespace forerun {
namespace {

using Chunk = std::span<const int32_t>;

void append_choices(EngineState& engine, const Forward& out, std::vector<int32_t>& choices) {
  const size_t begin = choices.size();
  choices.resize(begin + static_cast<size_t>(out.logits.rows));
  std::vector<float> logits(static_cast<size_t>(out.logits.rows));
  engine.backend->top_k(out.logits, 1, std::span(choices).subspan(begin), logits);
}

// The likeliest token after each position; the cache then holds the text.
std::vector<int32_t> read(EngineState& engine, Chunk tokens, KvCache& cache) {
  std::vector<int32_t> choices;
  for (size_t done = 0; done < tokens.size();) {
    const size_t rows = std::min(tokens.size() - done, static_cast<size_t>(kLogitRows));
    const std::lock_guard lock(engine.step_mutex);
    engine.batch.clear();
    engine.batch.add_causal(cache, tokens.subspan(done, rows), static_cast<int32_t>(rows));
    append_choices(engine, engine.forward(), choices);
    cache.commit_rows(static_cast<int32_t>(rows));
    done += rows;
  }
  return choices;
}

std::vector<int32_t> choose_again(EngineState& engine, Chunk tokens, KvCache& cache, Chunk layers) {
  std::vector<int32_t> choices;
  for (size_t done = 0; done < tokens.size();) {
    const size_t rows = std::min(tokens.size() - done, static_cast<size_t>(kLogitRows));
    const std::lock_guard lock(engine.step_mutex);
    engine.batch.clear();
    engine.batch.add_again(cache, static_cast<int32_t>(done), tokens.subspan(done, rows));
    append_choices(engine,
                   engine.target->forward(engine.batch, *engine.workspace, {layers, nullptr}),
                   choices);
    done += rows;
  }
  return choices;
}

}  // namespace

std::vector<double> Engine::layer_agreement(std::span<const int32_t> tokens,
                                            std::span<const std::vector<int32_t>> sets) {
  EngineState& engine = *state_;
  check_tokens(engine, tokens, 0);
  if (tokens.empty()) throw Error(ErrorKind::kBadArgument, kEmptyPrompt);
  KvCache cache(*engine.backend, engine.kv_layout, engine.context);
  const std::vector<int32_t> whole = read(engine, tokens, cache);
  std::vector<double> shares;
  for (const std::vector<int32_t>& layers : sets) {
    if (!std::is_sorted(layers.begin(), layers.end(), std::less_equal<>())) {
      throw Error(ErrorKind::kBadArgument, "layers of a part of the target must rise");
    }
    const std::vector<int32_t> part = choose_again(engine, tokens, cache, layers);
    const int32_t equal = std::inner_product(part.begin(), part.end(), whole.begin(), 0,
                                             std::plus<>(), std::equal_to<>());
    shares.push_back(static_cast<double>(equal) / static_cast<double>(tokens.size()));
  }
  return shares;
}

}  // namespace forerun
