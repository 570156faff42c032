#include "draft/tree_policy.h"

#include "base/error.h"
#include "draft/beam_policies.h"
#include "draft/shape_policies.h"
#include "draft/slot_policies.h"

namespace forerun {
namespace {

constexpr Method kMethods[] = {
    {"auto",
     "what fits: eagle2 at temperature 0, gumbel above, draws where the verifier needs them", ""},
    {"chain", "one child per node", "arXiv 2211.17192"},
    {"static", "the same shape whatever the guesses, from measured acceptance by rank (Sequoia)",
     "arXiv 2402.12374"},
    {"eagle2", "the nodes with the largest product of draft probabilities", "arXiv 2406.16858"},
    {"opt-tree", "the same with a beam as wide as the budget, as deep as it pays",
     "arXiv 2406.17276"},
    {"dyspec", "the slots that draws are most likely to reach, ranked before they are drawn",
     "arXiv 2410.11744"},
    {"rsd-c", "the same number of draws without replacement at every node of a level",
     "arXiv 2402.14160"},
    {"rsd-s", "paths drawn without replacement, by stochastic beam search",
     "arXiv 2402.14160, 1903.06059"},
    {"greedy-draft", "the most likely children and one drawn from the others", "arXiv 2502.18779"},
    {"gumbel", "eagle2 with children ranked by the target's own noise", "arXiv 2408.07978"},
};

// Rank acceptance of a draft model a tenth of the target's size, as Medusa's and EAGLE's static
// trees assume.
constexpr float kModelRates[] = {0.65F, 0.12F, 0.05F, 0.03F, 0.02F, 0.012F, 0.008F, 0.006F};

std::unique_ptr<TreePolicy> make(const std::string& name, int32_t top_k, Settings& settings,
                                 const MethodOptions& options) {
  const auto wide = [&] { return static_cast<int32_t>(settings.integer("top_k", top_k, 1, 64)); };
  if (name == "auto") return std::make_unique<AutoPolicy>(wide(), options);
  if (name == "chain") return std::make_unique<ChainPolicy>(settings);
  if (name == "static") return std::make_unique<StaticPolicy>(kModelRates);
  if (name == "dyspec") return std::make_unique<DyspecPolicy>(settings);
  if (name == "rsd-c") return std::make_unique<ConstantPolicy>(settings);
  if (name == "rsd-s") return std::make_unique<StochasticBeamPolicy>(settings);
  if (name == "greedy-draft") return std::make_unique<GreedyDraftPolicy>(settings);
  BeamPolicy::Shape shape;
  if (name == "eagle2" || name == "gumbel") {
    shape = {wide(), 0.0, name == "gumbel"};
    return std::make_unique<BeamPolicy>(name, shape);
  }
  if (name == "opt-tree") {
    shape = {0, settings.real("delta", 0.5, 0.0, 1e3), false};
    return std::make_unique<BeamPolicy>(name, shape);
  }
  std::string names;
  for (const Method& method : kMethods) {
    names += std::string(names.empty() ? "" : ", ") + method.name;
  }
  throw Error(ErrorKind::kBadArgument,
              "unknown tree policy '" + name + "', expected one of " + names);
}

}  // namespace

std::span<const Method> policy_methods() { return kMethods; }

std::unique_ptr<TreePolicy> make_policy(const std::string& name, int32_t top_k,
                                        const MethodOptions& options) {
  if (top_k < 1) {
    throw Error(ErrorKind::kBadArgument,
                "tree policy: top_k is " + std::to_string(top_k) + ", expected at least 1");
  }
  Settings settings(name, options);
  std::unique_ptr<TreePolicy> policy = make(name, top_k, settings, options);
  policy->stop() = parse_stop(name + ".stop", settings.text("stop", ""));
  settings.done();
  return policy;
}

float survival(const ChildSource& source, std::span<const Guess> pool, int32_t node) {
  if (node == 0) return 1.0F;
  const double above = pool[static_cast<size_t>(pool[static_cast<size_t>(node)].parent)].survival;
  return static_cast<float>(above * source.acceptance(pool, node));
}

void ChildSource::law(std::span<const Guess> pool, int32_t node, TokenLaw& q) {
  (void)pool, (void)node, (void)q;
  throw Error(ErrorKind::kUnsupported, "this source of guesses has no distribution to draw from");
}

}  // namespace forerun
