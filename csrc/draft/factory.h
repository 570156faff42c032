#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "draft/drafter.h"
#include "draft/recycle.h"
#include "model/model.h"

namespace forerun {

// A checked draft string.
struct DraftPlan {
  std::vector<std::string> names;               // "ngram", "recycle", "model", in order of priority
  std::string model_path;                       // of "model:PATH", else empty
  bool empty() const { return names.empty(); }  // plain decoding
  bool has(const std::string& name) const;
};

// "none", "auto" (ngram+recycle: both cost nothing to ask, and the controller drops what does not
// pay), or "ngram", "recycle", "model:PATH", joined by "+"; a path may hold "+" when the model
// comes last. Error(kBadArgument) listing the names for an unknown or repeated one.
DraftPlan parse_draft(const std::string& draft);

// What the drafters of an engine's sequences share.
struct DraftResources {
  std::shared_ptr<const Model> model;   // of "model"
  std::shared_ptr<RecycleTable> table;  // of "recycle"
  int32_t vocab = 0;
  int32_t context = 0;             // positions of a sequence
  std::string policy = "dynamic";  // of "model": chain, static or dynamic
  int32_t top_k = 8;               // of the dynamic policy

  void prepare(const DraftPlan& plan);  // makes the table if the plan needs one
};

// nullptr for an empty plan. Error(kBadArgument) for an unknown name or policy, or a resource that
// is missing.
std::unique_ptr<Drafter> make_drafter(const DraftPlan& plan, const DraftResources& resources);

}  // namespace forerun
