#include "verify/verifier.h"

#include "base/error.h"

namespace forerun {
namespace {

constexpr Method kMethods[] = {
    {"match", "keeps the branch that the target itself would have written, token for token", ""},
};

}  // namespace

std::span<const Method> verifier_methods() { return kMethods; }

std::unique_ptr<Verifier> make_verifier(const std::string& name, const MethodOptions& options) {
  const Settings settings(name, options);
  if (name == "match") {
    settings.done();
    return std::make_unique<MatchVerifier>();
  }
  std::string names;
  for (const Method& method : kMethods) {
    names += std::string(names.empty() ? "" : ", ") + method.name;
  }
  throw Error(ErrorKind::kBadArgument, "unknown verifier '" + name + "', expected one of " + names);
}

void MatchVerifier::verify(const DraftTree& tree, const NodeLogits& logits, int64_t position,
                           Sampler& sampler, Verdict& verdict) {
  verdict.path.clear();
  int32_t node = DraftTree::kRoot;
  for (;; ++position) {
    verdict.path.push_back(node);
    const int32_t token = sampler.sample(logits.row(node), position);
    sampler.push(token);
    node = tree.child_with(node, token);
    if (node < 0) {
      verdict.bonus = token;
      return;
    }
  }
}

}  // namespace forerun
