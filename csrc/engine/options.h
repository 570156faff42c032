#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/sampling.h"

namespace forerun {

// What an engine loads and how it runs.
struct EngineOptions {
  std::string target;  // a .gguf file or a Hugging Face folder
  // Who guesses: "none", "auto" (whatever the measured costs favour), or names of
  // methods().drafters joined by "+". The text is the same with every choice.
  std::string draft = "auto";
  // Folders of draft heads: "auto" takes the first that was made for the target, if nothing that it
  // is joined with runs a network. Other files are passed over.
  std::vector<std::string> heads;
  std::string device = "cpu";  // where target and draft run: "cpu" or "cuda" (the first GPU)
  // Which device holds what, in place of `device`: "cpu", "cuda", "dovetail" (the draft on a device
  // of its own), JSON or a file with it (sched/placement.h), or "auto" (what plan_machine of
  // engine/plan.h finds best; measures this machine, once when there is a cache).
  std::string placement;
  int64_t vram_limit = 0;  // bytes of a GPU that target and draft may take; 0: no limit
  int64_t ram_limit = 0;   // ... of the host
  std::string cache;       // folder of measured profiles, for "auto"; "": none is kept
  bool overlap = true;     // a draft on a device of its own drafts on while the target verifies
  int32_t threads = 0;     // 0: the cores this process may use
  int32_t context = 0;     // positions of a sequence; 0: what the model was trained for
  int32_t max_draft = 48;  // most drafted nodes a step, 0..127
  int32_t fixed_draft =
      -1;  // >= 0: that many nodes every step, whatever the costs say (tests, benches)
  // How the tree of a draft model, a head or early-exit grows: a name of methods().policies.
  std::string policy = "auto";
  std::string verify = "match";  // which branch is kept: a name of methods().verifiers
  std::map<std::string, std::string> method_options;  // "NAME.option" -> value, of those in use
  // How keys and values are kept: "f16", "f32" or "q8_0" (8-bit codes: half of f16's memory, and
  // less to read of a long context). Unlike the options above it may change the text; within one
  // type the text is the same whatever else is chosen. A draft model's cache is f16 always.
  std::string kv_type = "f16";
  int64_t prefix_cache_bytes = int64_t{512}
                               << 20;  // keys and values kept for prompts that begin the same way
  // Requests of Engine::submit.
  int32_t max_batch = 8;    // running at once, 1..64
  int32_t max_queue = 256;  // waiting to run, at least 1
  int64_t kv_bytes = 0;     // keys and values that running ones may come to need; 0: no limit
  // What a draft is trained on, taken as answers are written (Completion::features): these hidden
  // states of the target, -1 after the final norm, l the input of layer l, and so many likeliest
  // next tokens. Every prompt is then read whole, whatever is kept for its beginning.
  std::vector<int32_t> record_taps;
  int32_t record_top_k = 0;
  bool profile = false;                  // record the time of every operation (Engine::profile)
  std::function<void(double)> progress;  // fraction of the weights loaded, 0..1
};

// Called between the passes of a call that makes many, on its thread; what it throws ends the call.
using Watch = std::function<void()>;

// Several short continuations at once (Engine::complete_many).
struct ManyOptions {
  int32_t count = 3;              // how many, 1..32
  int32_t max_tokens = 16;        // of each, at least 1
  double ngram_weight = 0.5;      // 0..1: how much the n-grams of prompt and corpus count
  std::string corpus;             // text whose n-grams help; the prompt's own always do
  std::vector<std::string> stop;  // a text ends before the first of these
  bool add_special = true, parse_special = true;  // as in GenerateOptions
  Watch watch;
};

// One request.
struct GenerateOptions {
  int32_t max_tokens = 256;       // >= 0
  Sampling sampling;              // greedy unless the temperature is set
  std::vector<std::string> stop;  // the text ends before the first of these
  uint64_t seed = 0;              // the same seed gives the same text
  int32_t logprobs = -1;      // >= 0: log-probability of every token and of this many alternatives
  std::string tenant;         // drafters use the texts of earlier requests of the same tenant only
  bool add_special = true;    // BOS where the model asks for it (text prompts)
  bool parse_special = true;  // "<|im_start|>" in a text prompt means the special token
  // Called with every piece of text (valid UTF-8, "" when a step completed no character); false
  // cancels.
  std::function<bool(std::string_view)> on_text;
};

}  // namespace forerun
