// Superposed Decoding (Shen et al., arXiv 2405.18400): several continuations from one pass. The
// input of a step is one row, the mean of the drafts' last embeddings weighted by the drafts'
// probabilities; the drafts share the logits that come out, and the n-grams of each tell them apart
// again. Keys and values of a mixture belong to nobody, so they are forgotten at the end.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "draft/ngram_counts.h"
#include "engine/engine.h"
#include "engine/session_state.h"
#include "text/stream.h"

namespace forerun {
namespace {

constexpr int32_t kCandidates = 32;  // tokens a draft may go on with

struct Draft {
  std::vector<int32_t> tokens;
  double logprob = 0.0;  // of the shared rows and the n-grams: a score, not the model's own
  bool ended = false;
};

// The most likely tokens of a row, with their log-probabilities.
struct Candidates {
  std::vector<int32_t> ids;
  std::vector<double> logprob;
};

Candidates best_of(EngineState& engine, const Forward& out) {
  const std::span<const float> row(engine.readable(out), static_cast<size_t>(out.logits.cols));
  const int32_t count = std::min(kCandidates, out.logits.cols);
  Candidates best;
  best.ids.resize(static_cast<size_t>(count));
  std::vector<float> values(best.ids.size());
  engine.backend->top_k(out.logits.first_rows(1), count, best.ids, values);
  double total = 0.0;
  for (const float logit : row) total += std::exp(static_cast<double>(logit) - values[0]);
  for (const float value : values) {
    best.logprob.push_back(static_cast<double>(value) - values[0] - std::log(total));
  }
  return best;
}

// The k best among the ended drafts and all ways to go on with the others.
std::vector<Draft> grown(const std::vector<Draft>& drafts, const Candidates& next,
                         const NgramCounts& counts, std::span<const int32_t> prompt,
                         const ManyOptions& options) {
  std::vector<Draft> all;
  std::vector<int32_t> context(prompt.begin(), prompt.end());
  for (const Draft& draft : drafts) {
    if (draft.ended) {
      all.push_back(draft);
      continue;
    }
    context.resize(prompt.size());
    context.insert(context.end(), draft.tokens.begin(), draft.tokens.end());
    std::vector<double> logprob = next.logprob;
    counts.interpolate(context, next.ids, options.ngram_weight, logprob);
    for (size_t i = 0; i < next.ids.size(); ++i) {
      all.push_back(draft);
      all.back().tokens.push_back(next.ids[i]);
      all.back().logprob += logprob[i];
    }
  }
  const auto better = [](const Draft& a, const Draft& b) { return a.logprob > b.logprob; };
  std::stable_sort(all.begin(), all.end(), better);
  all.resize(std::min(all.size(), static_cast<size_t>(options.count)));
  return all;
}

// The mean of the last embeddings of the drafts that go on, weighted by their probabilities.
void superpose(const Model& model, const std::vector<Draft>& drafts, std::vector<float>& row) {
  double best = -std::numeric_limits<double>::infinity(), total = 0.0;
  for (const Draft& draft : drafts) {
    if (!draft.ended) best = std::max(best, draft.logprob);
  }
  for (const Draft& draft : drafts) {
    if (!draft.ended) total += std::exp(draft.logprob - best);
  }
  std::vector<float> one(row.size());
  std::fill(row.begin(), row.end(), 0.0F);
  for (const Draft& draft : drafts) {
    if (draft.ended) continue;
    const auto weight = static_cast<float>(std::exp(draft.logprob - best) / total);
    model.embedding(draft.tokens.back(), one);
    for (size_t i = 0; i < row.size(); ++i) row[i] += weight * one[i];
  }
}

// Ends drafts at an end token, which is dropped, and at a stop string; false when none goes on.
bool settle(const Tokenizer& tokenizer, const ManyOptions& options, std::vector<Draft>& drafts,
            std::vector<Alternative>& out) {
  out.clear();
  bool more = false;
  for (Draft& draft : drafts) {
    Alternative result{"", draft.tokens, draft.logprob, "length"};
    Utf8Stream utf8;
    StopMatcher stops(options.stop);
    for (const int32_t token : draft.tokens) {
      if (tokenizer.is_end(token) || stops.stopped()) break;
      result.text += stops.push(utf8.push(tokenizer.token_bytes(token)));
    }
    if (!stops.stopped()) result.text += stops.push(utf8.finish());
    if (!stops.stopped()) result.text += stops.finish();
    draft.ended = stops.stopped() || tokenizer.is_end(draft.tokens.back());
    if (draft.ended) result.finish_reason = "stop";
    more |= !draft.ended;
    out.push_back(std::move(result));
  }
  return more;
}

void check(const ManyOptions& options) {
  const auto fail = [](const std::string& what) { throw Error(ErrorKind::kBadArgument, what); };
  if (options.count < 1 || options.count > kCandidates) {
    fail("count is " + std::to_string(options.count) + ", expected 1 to " +
         std::to_string(kCandidates));
  }
  if (options.max_tokens < 1) {
    fail("max_tokens is " + std::to_string(options.max_tokens) + ", expected at least 1");
  }
  if (!(options.ngram_weight >= 0.0 && options.ngram_weight <= 1.0)) {
    fail("ngram_weight is " + std::to_string(options.ngram_weight) + ", expected 0 to 1");
  }
  const StopMatcher stops(options.stop);  // refuses what is not a stop string
}

}  // namespace

std::vector<Alternative> Engine::complete_many(std::string_view prompt,
                                               const ManyOptions& options) {
  check(options);
  EngineState& engine = *state_;
  std::vector<int32_t> tokens =
      engine.tokenizer->encode(prompt, {options.add_special, options.parse_special});
  if (tokens.empty()) {
    throw Error(ErrorKind::kBadArgument, "the prompt is empty: there is nothing to complete");
  }
  SessionState session(state_, {}, 0, -1);
  session.drafter.reset();  // nothing here is checked
  session.append(tokens);
  session.most = options.max_tokens;
  session.check_ready();
  const int32_t most = std::min(options.max_tokens, session.room());
  NgramCounts counts;
  counts.add(tokens);
  counts.add(engine.tokenizer->encode(options.corpus, {false, false}));

  session.prefill(options.watch);
  std::vector<Draft> drafts(1);
  std::vector<Alternative> out;
  std::vector<float> row(static_cast<size_t>(engine.target->config().width));
  Backend& first = engine.target->backend_of(0);
  Buffer mixture;
  {
    const std::lock_guard lock(engine.step_mutex);
    mixture = first.allocate(static_cast<int64_t>(row.size() * sizeof(float)));
  }
  const Tensor start(mixture.floats(), 1, engine.target->config().width);
  for (int32_t step = 0; step < most; ++step) {
    if (options.watch) options.watch();
    const std::lock_guard lock(engine.step_mutex);
    const int32_t last = step == 0 ? tokens.back() : drafts.front().tokens.back();
    engine.batch.clear();
    engine.batch.add_causal(session.cache, {&last, 1}, 1);
    if (step > 0) {
      superpose(*engine.target, drafts, row);
      first.upload(mixture.floats(), row.data(), static_cast<int64_t>(row.size() * sizeof(float)));
    }
    const Forward forward =
        step == 0 ? engine.target->forward(engine.batch, *engine.workspace)
                  : engine.target->forward_from(start, engine.batch, *engine.workspace);
    session.cache.commit_rows(1);
    drafts = grown(drafts, best_of(engine, forward), counts, tokens, options);
    if (!settle(*engine.tokenizer, options, drafts, out)) break;
  }
  return out;
}

}  // namespace forerun
