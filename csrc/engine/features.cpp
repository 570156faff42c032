#include "engine/features.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "backend/vocabulary.h"
#include "base/blocks.h"
#include "engine/engine.h"
#include "engine/session_state.h"

namespace forerun {

void check_features(const EngineState& engine, std::span<const int32_t> taps, int32_t top_k) {
  const ModelConfig& config = engine.target->config();
  for (const int32_t tap : taps) {
    if (tap < kFinalTap || tap >= config.layers) {
      throw Error(ErrorKind::kBadArgument,
                  "tap " + std::to_string(tap) +
                      ", expected -1 (after the final norm) or a layer 0 to " +
                      std::to_string(config.layers - 1));
    }
  }
  const int32_t most = std::min(config.vocab, engine.backend->most_top_k());
  if (top_k < 0 || top_k > most) {
    throw Error(ErrorKind::kBadArgument,
                "top_k is " + std::to_string(top_k) + ", expected 0 to " + std::to_string(most));
  }
}

void append_states(const HiddenRows& rows, Features& out) {
  for (int32_t i = 0; i < rows.rows; ++i) {
    for (const float value : rows.row(i)) {
      out.states.push_back(float_to_finite_half(value));
    }
  }
}

// The sum that normalises runs over the whole row.
void append_laws(const EngineState& engine, const Tensor& logits, const float* host, int64_t stride,
                 Features& out) {
  const size_t k = static_cast<size_t>(out.top_k), begin = out.ids.size();
  const size_t rows = static_cast<size_t>(logits.rows);
  out.ids.resize(begin + rows * k);
  out.logprobs.resize(begin + rows * k);
  engine.backend->top_k(logits, out.top_k, std::span(out.ids).subspan(begin),
                        std::span(out.logprobs).subspan(begin));
  for (size_t row = 0; row < rows; ++row) {
    float* best = out.logprobs.data() + begin + row * k;
    NoiseScan scan;
    scan.logits = host + static_cast<int64_t>(row) * stride;
    scan.count = logits.cols;
    scan.best = best[0];
    const double total =
        vocabulary_kernels().mass(scan, 0, scan.count, -std::numeric_limits<float>::max()).total;
    const double log_sum = scan.best + std::log(total);
    for (size_t i = 0; i < k; ++i) best[i] = static_cast<float>(best[i] - log_sum);
  }
}

Features Engine::features(std::span<const int32_t> tokens, std::span<const int32_t> taps,
                          int32_t top_k, int32_t first_law, const Watch& watch) {
  EngineState& engine = *state_;
  check_features(engine, taps, top_k);
  if (first_law < 0) {
    throw Error(ErrorKind::kBadArgument,
                "first_law is " + std::to_string(first_law) + ", expected >= 0");
  }
  check_tokens(engine, tokens, 0);
  Features out;
  out.top_k = top_k;
  out.width = static_cast<int32_t>(taps.size()) * engine.target->config().width;
  out.states.reserve(tokens.size() * static_cast<size_t>(out.width));
  out.tokens = static_cast<int32_t>(tokens.size());
  out.first_law = first_law;
  out.ids.reserve(static_cast<size_t>(out.laws()) * static_cast<size_t>(top_k));
  out.logprobs.reserve(out.ids.capacity());

  const auto max_taps = static_cast<int32_t>(taps.size());
  KvCache cache(engine.kv_places, engine.context);
  for (size_t done = 0; done < tokens.size();) {
    if (watch) watch();
    const size_t rows = std::min(tokens.size() - done, static_cast<size_t>(kLogitRows));
    const std::lock_guard lock(engine.step_mutex);
    auto& workspace = engine.feature_workspace;
    if (!workspace || workspace->max_taps() < max_taps) {
      workspace.reset();
      workspace = std::make_unique<Workspace>(*engine.target, kLogitRows, kLogitRows, max_taps);
    }
    const size_t end = done + rows, first = static_cast<size_t>(first_law);
    const size_t with_law = top_k > 0 ? std::min(rows, end - std::min(end, first)) : 0;
    engine.batch.clear();
    engine.batch.add_causal(cache, tokens.subspan(done, rows), static_cast<int32_t>(with_law));
    const Forward forward = engine.target->forward(engine.batch, *workspace,
                                                   {engine.target->all_layers(), nullptr, taps});
    append_states(engine.hidden_rows(forward, 0, forward.taps.rows), out);
    if (with_law > 0) {
      append_laws(engine, forward.logits, engine.readable(forward), forward.logits.stride, out);
    }
    cache.commit_rows(static_cast<int32_t>(rows));
    done += rows;
  }
  return out;
}

}  // namespace forerun
