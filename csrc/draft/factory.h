#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/method.h"
#include "base/settings.h"
#include "base/work_queue.h"
#include "draft/ahead.h"
#include "draft/drafter.h"
#include "draft/early_exit.h"
#include "draft/excerpt.h"
#include "draft/head_drafter.h"
#include "draft/lookup.h"
#include "draft/model_drafter.h"
#include "draft/recycle.h"
#include "draft/retrieval.h"
#include "draft/trigram.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace forerun {

// Every drafter that exists, in the order in which they are shown.
std::span<const Method> drafter_methods();

// One drafter of a checked draft string.
struct DraftPart {
  std::string name;
  std::string path;   // of "model:PATH", else empty
  Settings settings;  // its options; read, and thereby checked, when the part is prepared
};

struct DraftPlan {
  std::vector<DraftPart> parts;  // in order of priority
  bool wants_head = false;       // "auto" is among them, and none that runs a network
  bool empty() const { return parts.empty(); }  // plain decoding
  DraftPart* find(const std::string& name);     // nullptr when the plan does not have it
};

// "none", or names of drafter_methods(), NAME or NAME:PATH, joined by "+"; "auto" stands for those
// that cost nothing to ask (the controller drops what does not pay); a path may hold "+" as long as
// no drafter's name follows it. `options` of drafters outside the plan are refused, as are unknown
// and repeated names: Error(kBadArgument) listing the right ones.
DraftPlan parse_draft(const std::string& draft, const MethodOptions& options = {});

// What the option `parallel_layers` of the drafter "model" says of this model. Error(kBadArgument)
// for groups that it cannot have.
std::vector<LayerGroup> parallel_layers_of(DraftPart& model, const ModelConfig& config);

// What the drafters of an engine's sequences share.
struct DraftResources {
  std::shared_ptr<const Model> model;  // of "model"
  std::shared_ptr<LevelCosts> model_costs = std::make_shared<LevelCosts>();
  std::shared_ptr<WorkQueue> model_queue;  // of its back end; null where it shares the target's
  bool ahead = true;                       // "model" drafts while the target verifies
  std::shared_ptr<AheadTrial> ahead_trial = std::make_shared<AheadTrial>();
  std::shared_ptr<const DraftHead> head;  // of "head"
  std::shared_ptr<HeadScratch> head_scratch;
  std::shared_ptr<LevelCosts> head_costs = std::make_shared<LevelCosts>();
  std::shared_ptr<const Model> target;  // of "early-exit"
  ExitPlan exits;
  std::shared_ptr<LevelCosts> exit_costs = std::make_shared<LevelCosts>();
  std::shared_ptr<RecycleTable> table;  // of "recycle"
  std::shared_ptr<SharedTexts> texts;   // of "suffix"
  LookupOptions ngram, suffix;
  double model_confidence = 0.6;         // of "model", where its file has several exits
  std::vector<LayerGroup> model_groups;  // of "model": layers whose attention is side by side
  bool excerpts = false;                 // "model" reads an excerpt of a long text
  ExcerptOptions excerpt;
  std::shared_ptr<const Datastore> datastore;  // of "retrieval"
  std::shared_ptr<TrigramTable> trigrams;      // of "trigram"
  float trigram_explore = TrigramDrafter::kExplore;
  int32_t vocab = 0;
  int32_t context = 0;           // positions of a sequence
  std::string policy = "auto";   // of "model": a name of policy_methods()
  MethodOptions policy_options;  // "POLICY.key" -> value
  int32_t top_k = 8;             // children of a node, where the policy has no such option

  std::shared_ptr<const Tokenizer> tokenizer;  // whose vocabulary saved states must have

  // Makes what the plan needs and reads its options; Error(kBadArgument) for a wrong one,
  // Error(kBadFile) for a file that does not fit.
  void prepare(DraftPlan& plan);
  // What the drafters have learnt so far, for their option `state`. Error(kBadArgument) when none
  // of them learns or the file cannot be written.
  void save(const std::string& path) const;
};

// nullptr for an empty plan. tenant: whose earlier texts may be used and get to know this one.
// Error(kBadArgument) for a resource that is missing.
std::unique_ptr<Drafter> make_drafter(const DraftPlan& plan, const DraftResources& resources,
                                      const std::string& tenant = "");

}  // namespace forerun
