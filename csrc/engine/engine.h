#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/method.h"
#include "base/trace.h"
#include "engine/options.h"
#include "engine/request.h"
#include "engine/session.h"
#include "engine/stats.h"

namespace forerun {

// Hidden states of a text and the target's next-token laws: what a draft is trained on.
struct Features {
  int32_t tokens = 0, first_law = 0;  // laws are of tokens first_law to tokens
  int32_t width = 0, top_k = 0;
  std::vector<uint16_t> states;  // [tokens, width] half floats, one tap after another in a row
  std::vector<int32_t> ids;      // [laws(), top_k], most likely first
  std::vector<float> logprobs;   // [laws(), top_k] of the whole law
  int32_t laws() const { return tokens > first_law ? tokens - first_law : 0; }
};

// The answer to a request.
struct Completion {
  std::string text;             // valid UTF-8
  std::vector<int32_t> tokens;  // emitted tokens, an end token included
  std::string finish_reason;  // "stop" (end token or stop string), "length", "context", "cancelled"
  std::vector<Logprobs> logprobs;  // one per token when asked for
  Features features;  // if the engine records them: of all tokens but the last, laws from the
                      // prompt's last token on
  Stats stats;
};

// One of several continuations.
struct Alternative {
  std::string text;             // valid UTF-8
  std::vector<int32_t> tokens;  // an end token included
  double score = 0.0;           // sum of the shared log-probabilities; not the model's own
  std::string finish_reason;    // "stop" or "length"
};

struct EngineInfo {
  std::string architecture, path, draft, backend;
  std::vector<std::string> drafters;          // what `draft` stands for, in their order
  std::string placement;                      // which device holds what, on one line
  int64_t parameters = 0, weights_bytes = 0;  // weights_bytes: read by a step of one row
  int32_t layers = 0, vocab = 0, context = 0, threads = 0;
  std::string kv_type;
  int64_t kv_bytes_per_token = 0;  // keys and values of one position
};

// Loaded models and their back ends. Thread-safe: steps of several threads take turns. Errors are
// forerun::Error.
class FORERUN_API Engine {
 public:
  // kBadFile, kUnsupported (architecture, type, CPU), kBadArgument (option, draft with another
  // vocabulary), kOutOfMemory.
  static std::unique_ptr<Engine> load(const EngineOptions& options);
  explicit Engine(std::shared_ptr<EngineState> state);  // for devices of one's own: EngineState
  ~Engine();

  Completion generate(std::string_view prompt, const GenerateOptions& options = {});
  Completion generate(std::span<const int32_t> prompt, const GenerateOptions& options = {});

  // Many requests at once, batched by a worker thread that starts with the first of them; each gets
  // the text that generate() would give it. Error(kBadArgument) for what could never run, kBusy
  // when EngineOptions::max_queue requests wait already.
  Request submit(std::string_view prompt, const RequestOptions& options = {});
  Request submit(std::span<const int32_t> prompt, const RequestOptions& options = {});

  // `count` short continuations from one pass each token, best first, for autocompletion
  // (Superposed Decoding). Not what the model would write: the continuations share their keys and
  // values. Error(kBadArgument) for an empty prompt or an option out of range.
  std::vector<Alternative> complete_many(std::string_view prompt, const ManyOptions& options = {});

  // A timeline of its own. `logprobs` and `tenant` as in GenerateOptions.
  Session session(const Sampling& sampling = {}, uint64_t seed = 0, int32_t logprobs = -1,
                  const std::string& tenant = "");

  // One step of several sessions in one forward; each gets what its own step() would have given.
  std::vector<StepResult> step(std::span<Session* const> sessions);

  // One pass over `tokens` with a cache of its own; other requests take their turns between chunks.
  // taps: -1 is the hidden state after the final norm, l >= 0 the residual stream that enters layer
  // l. A value that a half float cannot hold becomes the largest one. first_law: no laws of the
  // tokens before it. Error(kBadArgument) for a tap that the target does not have and more tokens
  // than its context.
  Features features(std::span<const int32_t> tokens, std::span<const int32_t> taps, int32_t top_k,
                    int32_t first_law = 0, const Watch& watch = {});

  // Per set of layers, ascending: the share of the tokens after which these layers alone, with the
  // final norm and the head, would choose what the target chooses; keys and values of the text are
  // the whole target's. The acceptance rate of the first guess of the drafter early-exit. A pass
  // per set and one more. Error(kBadArgument) for layers that do not rise or that the target lacks,
  // no tokens, or more than its context.
  std::vector<double> layer_agreement(std::span<const int32_t> tokens,
                                      std::span<const std::vector<int32_t>> sets,
                                      const Watch& watch = {});

  // Per grouping, as the option model.parallel_layers has it: the share of the tokens after which
  // the target, with its layers so grouped, would choose what it chooses; keys and values of the
  // text are exact. How good a guess of this model is when it drafts with that grouping, against
  // its own without. A pass per grouping and one more. Error(kBadArgument) as layer_agreement.
  std::vector<double> parallel_agreement(std::span<const int32_t> tokens,
                                         std::span<const std::string> groupings,
                                         const Watch& watch = {});

  std::vector<int32_t> encode(std::string_view text, bool add_special = true,
                              bool parse_special = true) const;
  std::string decode(std::span<const int32_t> tokens,
                     bool special = false) const;  // bytes, as the tokens spell them
  int32_t bos_token() const;                       // -1 when the model has none
  int32_t eos_token() const;
  std::vector<int32_t> end_tokens() const;
  std::string token_text(int32_t token) const;  // special tokens by name
  std::string chat_template() const;            // Jinja source, empty when the model has none

  EngineInfo info() const;
  Stats stats() const;  // of all requests so far

  // What the drafters have learnt so far, for their option `state` (suffix, recycle, trigram). The
  // file holds text of earlier requests. Error(kBadArgument) when nothing could be saved.
  void save_drafts(const std::string& path) const;

  // Requests and sessions that begin from now on draft with the head of another draft file; those
  // under way keep theirs. The text does not change. Error(kBadArgument) without a head in use, for
  // a file that was made for another target and for one that reads other taps; else as load.
  void replace_head(const std::string& path);

  // Milliseconds of target forwards of `rows` tree rows after `context` tokens; of the prefill of
  // `tokens` tokens.
  std::vector<double> measure_verify(int32_t rows, int32_t context, int32_t repeats);
  std::vector<double> measure_prefill(int32_t tokens, int32_t repeats);

  // What was recorded since the last call: steps ("step"; "prefill" of a prompt chunk; "measure"),
  // their stages ("draft", "forward", "verify", "emit", "commit", "observe") and operations, each
  // when it ended. The newest 2^18 are kept. Error(kBadArgument) without EngineOptions::profile.
  std::vector<TraceSpan> profile();

 private:
  std::shared_ptr<EngineState> state_;
  std::once_flag scheduler_made_;
  std::unique_ptr<Scheduler> scheduler_;
};

// What can be chosen by name, one line each.
struct Methods {
  std::span<const Method> drafters, policies, verifiers;
};
FORERUN_API Methods methods();

FORERUN_API const char* version();

}  // namespace forerun
