#include "draft/factory.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "draft/combined.h"
#include "draft/model_drafter.h"

namespace forerun {
namespace {

// A drafter that can be named: how what its sequences share is made, and one for a sequence.
struct Entry {
  Method method;
  bool takes_path;
  void (*prepare)(DraftPart& part, DraftResources& resources);
  std::unique_ptr<Drafter> (*make)(const DraftResources& resources, const std::string& tenant);
};

uint64_t fingerprint_of(const DraftResources& resources) {
  return resources.tokenizer ? resources.tokenizer->fingerprint() : 0;
}

// Hands the drafter's section of the file that its option `state` names to `load`.
template <typename Load>
void read_state(DraftPart& part, const DraftResources& resources, Load&& load) {
  const std::string path = part.settings.text("state", "");
  if (!path.empty()) load(StateReader(path, fingerprint_of(resources)).section(part.name));
}

constexpr int32_t kTreeRoom = 128;

[[noreturn]] void miss(const char* name, const char* what) {
  throw Error(ErrorKind::kBadArgument,
              std::string("drafter '") + name + "' has no " + what + "; prepare() makes it");
}

LookupOptions lookup_options(Settings& settings) {
  LookupOptions options;
  options.tree = settings.choice("mode", {"tree", "path"}) == "tree";
  options.places = static_cast<int32_t>(settings.integer("places", options.places, 1, 1024));
  return options;
}

void prepare_ngram(DraftPart& part, DraftResources& resources) {
  resources.ngram = lookup_options(part.settings);
}

std::unique_ptr<Drafter> make_ngram(const DraftResources& resources, const std::string&) {
  return std::make_unique<LookupDrafter>(resources.ngram);
}

void prepare_suffix(DraftPart& part, DraftResources& resources) {
  constexpr int64_t kBytes = int64_t{64} << 20;
  resources.suffix = lookup_options(part.settings);
  resources.suffix.prompts = part.settings.integer("prompts", 0, 0, 1) != 0;
  const auto bytes = static_cast<uint64_t>(part.settings.bytes("max_bytes", kBytes));
  if (!resources.texts) resources.texts = std::make_shared<SharedTexts>(bytes);
  read_state(part, resources, [&](ByteCursor in) { resources.texts->load(in, resources.vocab); });
}

std::unique_ptr<Drafter> make_suffix(const DraftResources& resources, const std::string& tenant) {
  if (!resources.texts) miss("suffix", "shared texts");
  return std::make_unique<LookupDrafter>(resources.suffix, resources.texts, tenant);
}

void prepare_recycle(DraftPart& part, DraftResources& resources) {
  if (!resources.table) resources.table = std::make_shared<RecycleTable>(resources.vocab);
  read_state(part, resources, [&](ByteCursor in) { resources.table->load(in); });
}

std::unique_ptr<Drafter> make_recycle(const DraftResources& resources, const std::string&) {
  if (!resources.table) miss("recycle", "table");
  return std::make_unique<RecycleDrafter>(resources.table);
}

void prepare_trigram(DraftPart& part, DraftResources& resources) {
  constexpr int64_t kBytes = int64_t{16} << 20;
  resources.trigram_explore =
      static_cast<float>(part.settings.real("explore", TrigramDrafter::kExplore, 0.1, 4.0));
  const auto bytes = static_cast<uint64_t>(part.settings.bytes("max_bytes", kBytes));
  if (!resources.trigrams) resources.trigrams = std::make_shared<TrigramTable>(bytes);
  read_state(part, resources,
             [&](ByteCursor in) { resources.trigrams->load(in, resources.vocab); });
  if (const std::string corpus = part.settings.text("corpus", ""); !corpus.empty()) {
    const auto store = Datastore::open(corpus, resources.vocab, fingerprint_of(resources));
    store->check();
    resources.trigrams->read_corpus(*store, store->size());
  }
}

std::unique_ptr<Drafter> make_trigram(const DraftResources& resources, const std::string& tenant) {
  if (!resources.trigrams) miss("trigram", "table");
  return std::make_unique<TrigramDrafter>(resources.trigrams, resources.trigram_explore, tenant);
}

void prepare_retrieval(DraftPart& part, DraftResources& resources) {
  const bool check = part.settings.integer("check", 1, 0, 1) != 0;
  if (resources.datastore) return;
  resources.datastore = Datastore::open(part.path, resources.vocab, fingerprint_of(resources));
  if (check) resources.datastore->check();
}

std::unique_ptr<Drafter> make_retrieval(const DraftResources& resources, const std::string&) {
  if (!resources.datastore) miss("retrieval", "datastore");
  return std::make_unique<RetrievalDrafter>(resources.datastore);
}

// The policy of a drafter that asks a network; `predicts`: whether that predicts acceptance.
std::unique_ptr<TreePolicy> policy_of(const DraftResources& resources, const char* drafter,
                                      bool predicts) {
  auto policy = make_policy(resources.policy, resources.top_k, resources.policy_options);
  if (policy->stop().reads_survival() && !predicts) {
    throw Error(ErrorKind::kBadArgument,
                "option " + resources.policy + ".stop has the rule 'head', but drafter '" +
                    drafter +
                    "' has no head that predicts acceptance; `forerun train heads acceptance` adds "
                    "one to a draft file");
  }
  return policy;
}

void prepare_model(DraftPart& part, DraftResources& resources) {
  policy_of(resources, "model", false);
  Settings& settings = part.settings;
  resources.model_confidence = settings.real("confidence", ExitPlan{}.confidence, 0.0, 1.0);
  if (resources.model) {
    resources.model_groups = parallel_layers_of(part, resources.model->config());
  }
  ExcerptOptions& excerpt = resources.excerpt;
  resources.excerpts = settings.choice("context", {"full", "retrieved"}) == "retrieved";
  const auto size = [&settings](const char* key, int32_t fallback) {
    return static_cast<int32_t>(settings.integer(key, fallback, 1, 1 << 20));
  };
  excerpt.tokens = size("context_tokens", excerpt.tokens);
  excerpt.chunk = size("context_chunk", excerpt.chunk);
  excerpt.recent = size("context_recent", excerpt.recent);
}

// A drafter with a device of its own works on that device's thread.
std::unique_ptr<Drafter> on_its_queue(std::unique_ptr<Drafter> drafter,
                                      const DraftResources& resources, bool ahead) {
  if (!resources.model_queue) return drafter;
  return std::make_unique<AheadDrafter>(std::move(drafter), resources.model_queue, ahead,
                                        resources.ahead_trial);
}

std::unique_ptr<Drafter> make_model(const DraftResources& resources, const std::string&) {
  if (!resources.model) miss("model", "model");
  // An excerpt is at most so long that a whole tree still fits.
  const int32_t context = resources.excerpts
                              ? std::min(resources.context, resources.excerpt.tokens + kTreeRoom)
                              : resources.context;
  auto drafter = std::make_unique<ModelDrafter>(
      resources.model, policy_of(resources, "model", false), context, resources.model_confidence,
      resources.model_costs, resources.model_groups);
  if (!resources.excerpts) return on_its_queue(std::move(drafter), resources, resources.ahead);
  auto reader = std::make_unique<ExcerptDrafter>(std::move(drafter), resources.excerpt);
  return on_its_queue(std::move(reader), resources, false);
}

void prepare_head(DraftPart&, DraftResources& resources) {
  if (!resources.head) miss("head", "head");
  if (!resources.head_scratch) {
    resources.head_scratch = std::make_shared<HeadScratch>(*resources.head);
  }
  policy_of(resources, "head", resources.head->predicts_acceptance());
}

std::unique_ptr<Drafter> make_head(const DraftResources& resources, const std::string&) {
  if (!resources.head || !resources.head_scratch) miss("head", "head");
  return std::make_unique<HeadDrafter>(
      resources.head, resources.head_scratch,
      policy_of(resources, "head", resources.head->predicts_acceptance()), resources.context,
      resources.head_costs);
}

void prepare_early_exit(DraftPart& part, DraftResources& resources) {
  if (!resources.target) miss("early-exit", "target");
  policy_of(resources, "early-exit", false);
  const int32_t layers = resources.target->config().layers;
  std::string skip = part.settings.text("skip", "");
  const std::string exits = part.settings.text("exits", "");
  const double confidence = part.settings.real("confidence", ExitPlan{}.confidence, 0.0, 1.0);
  const std::vector<int32_t>& trained = resources.target->config().exits;
  if (skip.empty() && exits.empty() && !trained.empty()) {
    resources.exits = ExitPlan::after(trained, confidence, layers);
    return;
  }
  if (skip.empty() && exits.empty() && layers > 1) {  // the middle third
    skip = std::to_string(layers / 3) + "-" + std::to_string(std::max(2 * layers / 3 - 1, 0));
  }
  resources.exits = ExitPlan::parse(skip, exits, confidence, layers);
}

std::unique_ptr<Drafter> make_early_exit(const DraftResources& resources, const std::string&) {
  if (!resources.target) miss("early-exit", "target");
  return std::make_unique<EarlyExitDrafter>(resources.target, resources.exits,
                                            policy_of(resources, "early-exit", false),
                                            resources.exit_costs);
}

constexpr Entry kEntries[] = {
    {{"ngram", "copies what followed the last tokens earlier in the text (prompt lookup)",
      "Prompt Lookup Decoding"},
     false,
     prepare_ngram,
     make_ngram},
    {{"suffix", "what followed the last tokens in this text and in earlier answers, by frequency",
      "arXiv 2411.04975"},
     false,
     prepare_suffix,
     make_suffix},
    {{"recycle", "walks the target's own earlier rankings of successors (Token Recycling)",
      "arXiv 2408.08696"},
     false,
     prepare_recycle,
     make_recycle},
    {{"trigram", "walks what followed the last two tokens, learnt from texts and rankings (ADED)",
      "arXiv 2407.12021"},
     false,
     prepare_trigram,
     make_trigram},
    {{"retrieval", "what follows the last tokens in a datastore of texts: retrieval:PATH (REST)",
      "arXiv 2311.08252"},
     true,
     prepare_retrieval,
     make_retrieval},
    {{"model", "a small model with the same vocabulary: model:PATH", "arXiv 2211.17192", true,
      true},
     true,
     prepare_model,
     make_model},
    {{"head",
      "a trained head on the target's hidden states: head:PATH (Dovetail, EAGLE, Medusa, Hydra, "
      "Kangaroo, Chimera, Falcon)",
      "arXiv 2412.18934, 2503.01840, 2401.10774, 2402.05109, 2404.18911, 2402.15758, 2412.12639",
      true, true},
     true,
     prepare_head,
     make_head},
    {{"early-exit",
      "the target itself with some of its layers: skipped, or left early (SWIFT, S2D)",
      "arXiv 2410.06916", true, true},
     false,
     prepare_early_exit,
     make_early_exit},
};
constexpr const char* kAuto[] = {"suffix", "trigram"};

constexpr auto kMethods = [] {
  std::array<Method, std::size(kEntries)> methods{};
  for (size_t i = 0; i < methods.size(); ++i) methods[i] = kEntries[i].method;
  return methods;
}();

const Entry* find_entry(const std::string& name) {
  for (const Entry& entry : kEntries) {
    if (name == entry.method.name) return &entry;
  }
  return nullptr;
}

[[noreturn]] void fail(const std::string& what) {
  std::string names;
  for (const Entry& entry : kEntries) {
    names += std::string(", ") + entry.method.name + (entry.takes_path ? ":PATH" : "");
  }
  throw Error(ErrorKind::kBadArgument, what + "; expected none, auto" + names + ", joined by '+'");
}

bool names_a_drafter(const std::string& part) {
  if (part == "auto") return true;
  const std::string name = part.substr(0, part.find(':'));
  const Entry* entry = find_entry(name);
  return entry != nullptr && (entry->takes_path || name == part);
}

// "a+model:x+y+b" -> "a", "model:x+y", "b": what follows a '+' is a part only if it names a
// drafter; else it belongs to the path before it.
std::vector<std::string> split(const std::string& draft) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= draft.size();) {
    const size_t end = std::min(draft.find('+', at), draft.size());
    const std::string piece = draft.substr(at, end - at);
    const bool after_path = !parts.empty() && parts.back().find(':') != std::string::npos;
    if (after_path && !names_a_drafter(piece)) {
      parts.back() += "+" + piece;
    } else {
      parts.push_back(piece);
    }
    at = end + 1;
  }
  return parts;
}

void check_options(const DraftPlan& plan, const MethodOptions& options) {
  for (const auto& [key, value] : options) {
    const std::string name = key.substr(0, key.find('.'));
    if (find_entry(name) == nullptr) continue;  // of a policy or a verifier
    const bool used = std::any_of(plan.parts.begin(), plan.parts.end(),
                                  [&](const DraftPart& part) { return part.name == name; });
    if (!used) {
      throw Error(ErrorKind::kBadArgument,
                  "option " + key + " is given, but drafter '" + name + "' is not in use");
    }
  }
}

}  // namespace

std::span<const Method> drafter_methods() { return kMethods; }

std::vector<LayerGroup> parallel_layers_of(DraftPart& model, const ModelConfig& config) {
  const std::string option = "option model.parallel_layers";
  auto groups =
      parse_layer_groups(model.settings.text("parallel_layers", ""), config.layers, option);
  if (!groups.empty() && config.exits.size() > 1) {
    throw Error(ErrorKind::kBadArgument,
                option + " is given, but the draft model has several exits; use one of the two");
  }
  return groups;
}

DraftPart* DraftPlan::find(const std::string& name) {
  for (DraftPart& part : parts) {
    if (part.name == name) return &part;
  }
  return nullptr;
}

DraftPlan parse_draft(const std::string& draft, const MethodOptions& options) {
  DraftPlan plan;
  const auto add = [&](const std::string& name, const std::string& path) {
    const Entry* entry = find_entry(name);
    if (entry == nullptr) fail("unknown drafter '" + name + "' in '" + draft + "'");
    if (plan.find(name) != nullptr) {
      fail("drafter '" + name + "' is given twice in '" + draft + "'");
    }
    if (entry->takes_path == path.empty()) {
      fail("drafter '" + name + "' " +
           (entry->takes_path ? "needs a path, '" + name + ":PATH'," : "takes no path,") + " in '" +
           draft + "'");
    }
    plan.parts.push_back({name, path, Settings(name, options)});
  };
  for (const std::string& part : draft == "none" ? std::vector<std::string>{} : split(draft)) {
    if (part == "auto") {
      for (const char* name : kAuto) add(name, "");
      plan.wants_head = true;
      continue;
    }
    const size_t colon = part.find(':');
    add(part.substr(0, colon), colon == std::string::npos ? "" : part.substr(colon + 1));
  }
  for (const DraftPart& part : plan.parts) {
    if (find_entry(part.name)->method.grown) plan.wants_head = false;
  }
  check_options(plan, options);
  return plan;
}

void DraftResources::prepare(DraftPlan& plan) {
  for (DraftPart& part : plan.parts) {
    const Entry* entry = find_entry(part.name);
    if (entry == nullptr) fail("unknown drafter '" + part.name + "'");
    entry->prepare(part, *this);
    part.settings.done();
  }
}

void DraftResources::save(const std::string& path) const {
  if (!texts && !table && !trigrams) {
    throw Error(
        ErrorKind::kBadArgument,
        "no drafter in use learns anything that could be saved; suffix, recycle and trigram do");
  }
  StateWriter out(fingerprint_of(*this));
  const auto section = [&out](const char* name, const auto& learnt) {
    if (!learnt) return;
    out.begin_section(name);
    learnt->save(out);
  };
  section("suffix", texts);
  section("recycle", table);
  section("trigram", trigrams);
  out.write(path);
}

std::unique_ptr<Drafter> make_drafter(const DraftPlan& plan, const DraftResources& resources,
                                      const std::string& tenant) {
  std::vector<std::unique_ptr<Drafter>> drafters;
  for (const DraftPart& part : plan.parts) {
    const Entry* entry = find_entry(part.name);
    if (entry == nullptr) fail("unknown drafter '" + part.name + "'");
    drafters.push_back(entry->make(resources, tenant));
  }
  if (drafters.empty()) return nullptr;
  if (drafters.size() == 1) return std::move(drafters.front());
  return std::make_unique<CombinedDrafter>(std::move(drafters));
}

}  // namespace forerun
