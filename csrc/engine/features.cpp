// What a draft head is trained on: the hidden states and the next-token laws of a text.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "backend/vocabulary.h"
#include "base/blocks.h"
#include "engine/engine.h"
#include "engine/session_state.h"

namespace forerun {
namespace {

constexpr float kLargestHalf = 65504.0F;

void check(const EngineState& engine, std::span<const int32_t> taps, int32_t top_k) {
  const ModelConfig& config = engine.target->config();
  for (const int32_t tap : taps) {
    if (tap < kFinalTap || tap >= config.layers) {
      throw Error(ErrorKind::kBadArgument,
                  "tap " + std::to_string(tap) +
                      ", expected -1 (after the final norm) or a layer 0 to " +
                      std::to_string(config.layers - 1));
    }
  }
  if (top_k < 0 || top_k > config.vocab) {
    throw Error(ErrorKind::kBadArgument, "top_k is " + std::to_string(top_k) + ", expected 0 to " +
                                             std::to_string(config.vocab));
  }
}

void append_states(EngineState& engine, const Tensor& taps, Features& out) {
  std::vector<float> row(static_cast<size_t>(taps.cols));
  for (int32_t i = 0; i < taps.rows; ++i) {
    engine.backend->download(row.data(), taps.row(i), int64_t{4} * taps.cols);
    for (const float value : row) {
      out.states.push_back(float_to_half(std::clamp(value, -kLargestHalf, kLargestHalf)));
    }
  }
}

// The k most likely tokens of each row; the sum that normalises runs over the whole row.
void append_laws(EngineState& engine, const Forward& forward, Features& out) {
  const size_t k = static_cast<size_t>(out.top_k), begin = out.ids.size();
  const size_t rows = static_cast<size_t>(forward.logits.rows);
  out.ids.resize(begin + rows * k);
  out.logprobs.resize(begin + rows * k);
  engine.backend->top_k(forward.logits, out.top_k, std::span(out.ids).subspan(begin),
                        std::span(out.logprobs).subspan(begin));
  const float* logits = engine.readable(forward);
  for (size_t row = 0; row < rows; ++row, logits += forward.logits.stride) {
    float* best = out.logprobs.data() + begin + row * k;
    NoiseScan scan;
    scan.logits = logits;
    scan.count = forward.logits.cols;
    scan.best = best[0];
    const double total =
        vocabulary_kernels().mass(scan, 0, scan.count, -std::numeric_limits<float>::max()).total;
    const double log_sum = scan.best + std::log(total);
    for (size_t i = 0; i < k; ++i) best[i] = static_cast<float>(best[i] - log_sum);
  }
}

}  // namespace

Features Engine::features(std::span<const int32_t> tokens, std::span<const int32_t> taps,
                          int32_t top_k) {
  EngineState& engine = *state_;
  check(engine, taps, top_k);
  check_tokens(engine, tokens, 0);
  Features out;
  out.top_k = top_k;
  out.width = static_cast<int32_t>(taps.size()) * engine.target->config().width;
  out.states.reserve(tokens.size() * static_cast<size_t>(out.width));
  out.ids.reserve(tokens.size() * static_cast<size_t>(top_k));
  out.logprobs.reserve(out.ids.capacity());

  const auto max_taps = static_cast<int32_t>(taps.size());
  KvCache cache(*engine.backend, engine.kv_layout, engine.context);
  for (size_t done = 0; done < tokens.size();) {
    const size_t rows = std::min(tokens.size() - done, static_cast<size_t>(kLogitRows));
    const std::lock_guard lock(engine.step_mutex);
    auto& workspace = engine.feature_workspace;
    if (!workspace || workspace->max_taps() < max_taps) {
      workspace.reset();
      workspace = std::make_unique<Workspace>(*engine.backend, engine.target->config(), kLogitRows,
                                              kLogitRows, max_taps);
    }
    engine.batch.clear();
    engine.batch.add_causal(cache, tokens.subspan(done, rows),
                            top_k > 0 ? static_cast<int32_t>(rows) : 0);
    const Forward forward = engine.target->forward(engine.batch, *workspace,
                                                   {engine.target->all_layers(), nullptr, taps});
    append_states(engine, forward.taps, out);
    if (top_k > 0) append_laws(engine, forward, out);
    cache.commit_rows(static_cast<int32_t>(rows));
    done += rows;
  }
  return out;
}

}  // namespace forerun
