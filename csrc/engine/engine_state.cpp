#include "engine/engine_state.h"

#include <algorithm>

namespace forerun {
namespace {

constexpr int32_t kFallbackContext =
    4096;  // when the file does not say what the model was trained for

void check(const EngineOptions& options) {
  const auto fail = [](const std::string& what) { throw Error(ErrorKind::kBadArgument, what); };
  if (options.target.empty()) fail("no target model was given");
  if (options.device != "cpu" && options.device != "cuda") {
    fail("device is '" + options.device + "', expected cpu or cuda");
  }
  if (options.threads < 0 || options.threads > 1024) {
    fail("threads is " + std::to_string(options.threads) + ", expected 0 (automatic) to 1024");
  }
  if (options.context < 0)
    fail("context is " + std::to_string(options.context) + ", expected >= 0");
  if (options.max_draft < 0 || options.max_draft >= kLogitRows) {
    fail("max_draft is " + std::to_string(options.max_draft) + ", expected 0 to " +
         std::to_string(kLogitRows - 1));
  }
  if (options.fixed_draft >= kLogitRows) {
    fail("fixed_draft is " + std::to_string(options.fixed_draft) + ", expected at most " +
         std::to_string(kLogitRows - 1));
  }
}

int32_t choose_context(const EngineOptions& options, const Model& target) {
  const int32_t trained = target.config().trained_context;
  const int32_t most = trained > 0 ? trained : kFallbackContext;
  if (options.context > most && trained > 0) {
    throw Error(ErrorKind::kBadArgument, "context is " + std::to_string(options.context) +
                                             ", but " + options.target + " was trained for " +
                                             std::to_string(trained) + " positions");
  }
  return options.context > 0 ? options.context : most;
}

}  // namespace

EngineState::EngineState(const EngineOptions& wanted) : options(wanted) {
  check(options);
  draft_plan = parse_draft(options.draft, options.method_options);
  make_verifier(options.verify, options.method_options);  // refuses a wrong one before the load
  backend = options.device == "cuda" ? make_cuda_backend(0) : make_cpu_backend(options.threads);
  checkpoint = open_checkpoint(options.target);
  tokenizer = load_tokenizer(*checkpoint);
  target = Model::load(checkpoint, backend, options.progress);
  if (tokenizer->vocab_size() > target->config().vocab) {
    throw Error(ErrorKind::kBadFile,
                options.target + ": the tokenizer has " + std::to_string(tokenizer->vocab_size()) +
                    " tokens, the model only " + std::to_string(target->config().vocab) + " rows");
  }
  context = choose_context(options, *target);
  prefixes =
      std::make_unique<PrefixStore>(options.prefix_cache_bytes / target->kv_layout().page_bytes());
  workspace = std::make_unique<Workspace>(*backend, target->config(), kPrefillRows, kLogitRows);
  if (!draft_plan.empty()) {
    load_draft();
    if (options.fixed_draft < 0) {
      measure_costs();
      if (draft_shared.model) measure_draft_model();
    }
  }
}

void EngineState::load_draft() {
  draft_shared.vocab = target->config().vocab;
  draft_shared.context = context;
  draft_shared.policy = options.policy;
  if (const DraftPart* part = draft_plan.find("model")) {
    const auto file = open_checkpoint(part->path);
    const auto draft_tokenizer = load_tokenizer(*file);
    if (const std::string why = tokenizer->difference(*draft_tokenizer); !why.empty()) {
      throw Error(ErrorKind::kBadArgument,
                  "draft model " + part->path + " cannot draft for " + options.target + ": " + why);
    }
    draft_shared.model = Model::load(file, backend);
  }
  draft_shared.prepare(draft_plan);
}

const float* EngineState::readable(const Forward& forward) {
  if (backend->host_visible()) return forward.logits.data;
  const size_t values =
      static_cast<size_t>(forward.logits.rows) * static_cast<size_t>(forward.logits.stride);
  if (host_logits.size() < values) host_logits.resize(values);
  backend->download(host_logits.data(), forward.logits.data,
                    static_cast<int64_t>(values * sizeof(float)));
  return host_logits.data();
}

}  // namespace forerun
