#include "engine/engine_state.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <utility>

#include "base/blocks.h"
#include "draft/slot_policies.h"
#include "engine/draw_need.h"
#include "engine/features.h"
#include "sched/expected_tree.h"

namespace forerun {
namespace {

constexpr size_t kTraceSpans = 1 << 18;  // some hundred steps of a large model
constexpr int32_t kFallbackContext =
    4096;  // when the file does not say what the model was trained for

DType kv_type_of(const std::string& name) {
  if (name == "f16") return DType::kF16;
  if (name == "f32") return DType::kF32;
  if (name == "q8_0") return DType::kQ8_0;
  throw Error(ErrorKind::kBadArgument, "kv_type is '" + name + "', expected f16, f32 or q8_0");
}

// Of a folder of draft heads, by name.
std::vector<std::string> draft_files(const std::string& folder) {
  std::error_code failure;
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failure)) {
    if (entry.path().extension() == ".gguf") files.push_back(entry.path().string());
  }
  if (failure) {
    throw Error(ErrorKind::kBadArgument,
                "heads: cannot read the folder " + folder + ": " + failure.message());
  }
  std::sort(files.begin(), files.end());
  return files;
}

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
  if (options.max_batch < 1 || options.max_batch > kLogitRows / 2) {
    fail("max_batch is " + std::to_string(options.max_batch) + ", expected 1 to " +
         std::to_string(kLogitRows / 2));
  }
  if (options.max_queue < 1) {
    fail("max_queue is " + std::to_string(options.max_queue) + ", expected at least 1");
  }
  if (options.kv_bytes < 0) {
    fail("kv_bytes is " + std::to_string(options.kv_bytes) + ", expected >= 0 (0: no limit)");
  }
  if (options.fixed_draft >= kLogitRows) {
    fail("fixed_draft is " + std::to_string(options.fixed_draft) + ", expected at most " +
         std::to_string(kLogitRows - 1));
  }
}

// Options of drafters are checked with the draft (parse_draft), others by the method that reads
// them.
void check_options_are_used(const EngineOptions& options) {
  for (const auto& [key, value] : options.method_options) {
    const size_t dot = key.find('.');
    const std::string name = key.substr(0, dot);
    const bool chosen = name == options.policy || name == options.verify;
    // Branches end by the rule of the policy that was asked for.
    const bool stop = dot != std::string::npos && key.substr(dot) == ".stop";
    const bool by_auto = options.policy == "auto" && !stop &&
                         std::ranges::count(AutoPolicy::kChoices, std::string_view(name)) > 0;
    const auto named = [&](const Method& method) { return name == method.name; };
    if (chosen || by_auto || std::ranges::any_of(drafter_methods(), named)) continue;
    throw Error(ErrorKind::kBadArgument,
                "option " + key + " belongs to no method in use: policy '" + options.policy +
                    "', verify '" + options.verify + "', draft '" + options.draft + "'");
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

// Where the host can read a tensor's values: itself, or a copy in `copy`.
const float* on_host(Backend& backend, const Tensor& tensor, std::vector<float>& copy) {
  if (backend.host_visible()) return tensor.data;
  const size_t values = static_cast<size_t>(tensor.rows) * static_cast<size_t>(tensor.stride);
  if (copy.size() < values) copy.resize(values);
  backend.download(copy.data(), tensor.data, static_cast<int64_t>(values * sizeof(float)));
  return copy.data();
}

}  // namespace

EngineState::EngineState(const EngineOptions& wanted, DeviceMaker make)
    : options(wanted),
      recorder(wanted.profile ? std::make_shared<TraceRecorder>(kTraceSpans) : nullptr),
      devices(std::move(make), recorder) {
  check(options);
  draft_plan = parse_draft(options.draft, options.method_options);
  check_options_are_used(options);
  judge = load_judge(options.verify, options.method_options);
  new_verifier();  // what is wrong is refused before the load
  make_policy(options.policy, draft_shared.top_k, options.method_options);
  const DType kv_type = kv_type_of(options.kv_type);
  checkpoint = open_checkpoint(options.target);
  const DraftPart* model_part = draft_plan.find("model");
  placement = choose_placement(options, *checkpoint, model_part ? model_part->path : "");
  backend = devices[placement.head];
  tokenizer = load_tokenizer(*checkpoint);
  target = Model::load(checkpoint, devices.of_target(placement), options.progress);
  if (tokenizer->vocab_size() > target->config().vocab) {
    throw Error(ErrorKind::kBadFile,
                options.target + ": the tokenizer has " + std::to_string(tokenizer->vocab_size()) +
                    " tokens, the model only " + std::to_string(target->config().vocab) + " rows");
  }
  if (judge) judge->check_fit(target->config(), tokenizer->fingerprint());
  context = choose_context(options, *target);
  kv_layout = target->kv_layout(kv_type);
  kv_places = target->kv_places(kv_type);
  for (const KvPlace& place : kv_places) place.backend->check_kv(place.layout);
  prefixes = std::make_unique<PrefixStore>(options.prefix_cache_bytes / kv_layout.page_bytes());
  if (!draft_plan.empty()) load_draft();
  check_features(*this, options.record_taps, options.record_top_k);
  draft_taps = static_cast<int32_t>(taps.size());
  taps.insert(taps.end(), options.record_taps.begin(), options.record_taps.end());
  workspace = std::make_unique<Workspace>(*target, kPrefillRows, kLogitRows,
                                          static_cast<int32_t>(taps.size()));
  if (!draft_plan.empty()) {
    if (options.fixed_draft < 0) {
      measure_costs();
      if (draft_shared.model) measure_draft_model();
      if (draft_shared.head) measure_draft_head();
      if (draft_plan.find("early-exit") != nullptr) measure_early_exit();
      expect_planned_tree();
    }
  }
  if (recorder) recorder->take();
}

void EngineState::find_head() {
  const bool on_cpu = placement.draft.rfind("cpu", 0) == 0;
  if (!draft_plan.wants_head || !on_cpu) return;
  for (const std::string& folder : options.heads) {
    for (const std::string& file : draft_files(folder)) {
      if (!take_head(file)) continue;
      draft_plan.parts.push_back({"head", file, Settings("head", options.method_options)});
      return;
    }
  }
}

// A file that merely lies there is no reason to fail: what is no draft, cannot be read, or is one
// for another target or placement, does not fit.
bool EngineState::take_head(const std::string& head) {
  try {
    const HeadConfig config = read_head_config(*open_checkpoint(head));
    const bool on_one_device = target->backends().size() == 1 && !placement.draft_is_apart();
    if (!config.target.misfit(target->config(), tokenizer->fingerprint()).empty()) return false;
    if (config.exit_layers() > 0 && !on_one_device) return false;
    draft_shared.head = load_head(head);
    return true;
  } catch (const Error& error) {
    const ErrorKind kind = error.kind();
    if (kind == ErrorKind::kDevice || kind == ErrorKind::kOutOfMemory) throw;
    return false;
  }
}

void EngineState::load_draft() {
  find_head();
  draft_shared.vocab = target->config().vocab;
  draft_shared.tokenizer = tokenizer;
  draft_shared.target = target;
  draft_shared.context = context;
  draft_shared.policy = options.policy;
  draft_shared.policy_options = options.method_options;
  if (DraftPart* part = draft_plan.find("model")) {
    const auto file = open_checkpoint(part->path);
    const ModelConfig config = read_model_config(*file);  // says what the file is, if no model
    const auto draft_tokenizer = load_tokenizer(*file);
    if (const std::string why = tokenizer->difference(*draft_tokenizer); !why.empty()) {
      throw Error(ErrorKind::kBadArgument,
                  "draft model " + part->path + " cannot draft for " + options.target + ": " + why);
    }
    ModelBackends backends =
        devices.of_draft(placement, parallel_layers_of(*part, config), config.layers);
    if (!recorder) {  // of a profile: one thread at a time
      backends.queue_of = [this](const auto& device) { return executor_.queue_of(device); };
    }
    draft_shared.model = Model::load(file, std::move(backends));
  }
  separate();
  if (draft_plan.find("early-exit") != nullptr && target->backends().size() > 1) {
    throw Error(ErrorKind::kUnsupported,
                "early-exit drafts with layers on one device, but the placement is " +
                    placement_text(placement) + "; use another draft or placement");
  }
  if (const DraftPart* part = draft_plan.find("head"); part && !draft_shared.head) {
    draft_shared.head = load_head(part->path);
  }
  draft_shared.prepare(draft_plan);
  const auto drafter = make_drafter(draft_plan, draft_shared);
  taps.assign(drafter->wanted_taps().begin(), drafter->wanted_taps().end());
  need = agree_on_draws(*new_verifier(), *drafter, options.draft, options.policy);
}

void EngineState::separate() {
  if (!draft_shared.model || !placement.draft_is_apart()) return;
  target_queue_ = executor_.queue_of(backend);
  draft_shared.model_queue = executor_.queue_of(devices[placement.draft]);
  // One recorder, one thread at a time; a head would work on the draft's device meanwhile, and a
  // draft that borrows the target's device waits for it.
  draft_shared.ahead = options.overlap && !recorder && draft_plan.find("head") == nullptr &&
                       !placement.draft_borrows();
}

// Trees of the draft model begin as those of the plan.
void EngineState::expect_planned_tree() {
  const PlannedTree& plan = placement.tree;
  if (!draft_shared.model || plan.nodes == 0) return;
  const Acceptance likely =
      plan.tokens > 1.0 ? acceptance_for(plan.tokens, plan.nodes, plan.depth) : Acceptance{};
  const ExpectedTree tree = expected_tree(likely, plan.nodes, plan.depth);
  known.arm(DraftSource::kModel).expect(tree.values, tree.depth);
}

Forward EngineState::run_target() {
  return target->forward(batch, *workspace, {target->all_layers(), nullptr, taps});
}

Forward EngineState::forward() {
  const TraceScope scope = stage("forward");
  if (!target_queue_) return run_target();
  target_queue_->run(forward_task_);
  return forwarded_;
}

HiddenRows EngineState::hidden_rows(const Forward& forward, int32_t first, int32_t rows) {
  const Tensor& found = forward.taps;
  if (found.cols == 0) return {};
  if (backend->host_visible()) return {found.row(first), found.stride, rows, found.cols};
  const size_t values = static_cast<size_t>(rows) * static_cast<size_t>(found.stride);
  if (host_taps.size() < values) host_taps.resize(values);
  if (placement.draft == placement.head) {
    backend->download(host_taps.data(), found.row(first),
                      static_cast<int64_t>(values * sizeof(float)));
  } else {
    if (half_taps.size() < values) half_taps.resize(values);
    const std::span<uint16_t> crossing = std::span(half_taps).first(values);
    backend->download_halves(crossing, found.row(first));
    std::transform(crossing.begin(), crossing.end(), host_taps.begin(), half_to_float);
  }
  return {host_taps.data(), found.stride, rows, found.cols};
}

HiddenRows EngineState::for_drafter(const HiddenRows& all) const {
  return all.columns(0, draft_taps * target->config().width);
}

HiddenRows EngineState::for_record(const HiddenRows& all) const {
  const int32_t begin = draft_taps * target->config().width;
  return all.columns(begin, all.width - begin);
}

std::shared_ptr<const DraftHead> EngineState::load_head(const std::string& path) {
  return DraftHead::load(open_checkpoint(path), target, tokenizer->fingerprint(),
                         devices[placement.draft]);
}

void EngineState::replace_head(const std::string& path) {
  const std::lock_guard step(step_mutex);
  if (!draft_shared.head) {
    throw Error(ErrorKind::kBadArgument,
                "draft '" + options.draft + "' has no head that " + path + " could replace");
  }
  DraftResources next = draft_shared;
  next.head = load_head(path);
  next.head_scratch = std::make_shared<HeadScratch>(*next.head);
  if (next.head->config().taps != draft_shared.head->config().taps) {
    throw Error(ErrorKind::kBadArgument,
                path + ": reads other hidden states of the target than the head in use");
  }
  make_drafter(draft_plan, next);  // what does not fit the options is refused
  const std::lock_guard lock(drafts_mutex_);
  draft_shared.head = std::move(next.head);
  draft_shared.head_scratch = std::move(next.head_scratch);
}

int64_t EngineState::head_page_bytes() const {
  const std::lock_guard lock(drafts_mutex_);
  const auto& head = draft_shared.head;
  return head && head->config().blocks > 0 ? head->kv_layout().page_bytes() : 0;
}

std::unique_ptr<Drafter> EngineState::new_drafter(const std::string& tenant) const {
  const std::lock_guard lock(drafts_mutex_);
  return make_drafter(draft_plan, draft_shared, tenant);
}

std::unique_ptr<Verifier> EngineState::new_verifier() const {
  return make_verifier(options.verify, options.method_options, judge);
}

const float* EngineState::readable(const Forward& forward) {
  return on_host(*backend, forward.logits, host_logits);
}

NodeLogits EngineState::node_logits(const Forward& forward, bool hidden) {
  NodeLogits out{readable(forward), forward.logits.stride, forward.logits.cols};
  if (!hidden) return out;
  out.hidden = on_host(*backend, forward.hidden, host_hidden);
  out.hidden_stride = forward.hidden.stride;
  out.width = forward.hidden.cols;
  return out;
}

}  // namespace forerun
