#include "draft/factory.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "draft/combined.h"
#include "draft/model_drafter.h"
#include "draft/ngram.h"

namespace forerun {
namespace {

[[noreturn]] void fail(const std::string& what) {
  throw Error(ErrorKind::kBadArgument,
              what + "; expected none, auto, or ngram, recycle, model:PATH, joined by '+'");
}

std::unique_ptr<Drafter> make_one(const std::string& name, const DraftResources& resources) {
  if (name == "ngram") return std::make_unique<NgramDrafter>();
  if (name == "recycle") {
    if (!resources.table) fail("drafter 'recycle' has no table");
    return std::make_unique<RecycleDrafter>(resources.table);
  }
  if (name == "model") {
    if (!resources.model) fail("drafter 'model' has no model");
    return std::make_unique<ModelDrafter>(
        resources.model, make_policy(resources.policy, resources.top_k), resources.context);
  }
  fail("unknown drafter '" + name + "'");
}

}  // namespace

bool DraftPlan::has(const std::string& name) const {
  return std::find(names.begin(), names.end(), name) != names.end();
}

DraftPlan parse_draft(const std::string& draft) {
  constexpr std::string_view kModel = "model:";
  DraftPlan plan;
  if (draft == "none") return plan;
  if (draft == "auto") {
    plan.names = {"ngram", "recycle"};
    return plan;
  }
  const auto add = [&](const std::string& name) {
    if (plan.has(name)) fail("drafter '" + name + "' is given twice in '" + draft + "'");
    plan.names.push_back(name);
  };
  for (size_t at = 0; at <= draft.size();) {
    const size_t end = std::min(draft.find('+', at), draft.size());
    const std::string name = draft.substr(at, end - at);
    if (name.starts_with(kModel)) {
      // The path goes on to the end unless all that follows are drafters.
      size_t stop = draft.size();
      for (size_t plus = draft.rfind('+', stop - 1); plus != std::string::npos && plus >= end;
           plus = draft.rfind('+', plus - 1)) {
        const std::string last = draft.substr(plus + 1, stop - plus - 1);
        if (last != "ngram" && last != "recycle") break;
        stop = plus;
      }
      add("model");
      plan.model_path = draft.substr(at + kModel.size(), stop - at - kModel.size());
      if (plan.model_path.empty()) fail("drafter 'model:' has no path in '" + draft + "'");
      at = stop + 1;
      continue;
    }
    if (name != "ngram" && name != "recycle") {
      fail("unknown drafter '" + name + "' in '" + draft + "'");
    }
    add(name);
    at = end + 1;
  }
  return plan;
}

void DraftResources::prepare(const DraftPlan& plan) {
  if (plan.has("recycle") && !table) table = std::make_shared<RecycleTable>(vocab);
  if (plan.has("model")) make_policy(policy, top_k);  // refuses an unknown policy early
}

std::unique_ptr<Drafter> make_drafter(const DraftPlan& plan, const DraftResources& resources) {
  std::vector<std::unique_ptr<Drafter>> drafters;
  for (const std::string& name : plan.names) drafters.push_back(make_one(name, resources));
  if (drafters.empty()) return nullptr;
  if (drafters.size() == 1) return std::move(drafters.front());
  return std::make_unique<CombinedDrafter>(std::move(drafters));
}

}  // namespace forerun
