#include "verify/verifier.h"

#include <utility>

#include "base/error.h"
#include "verify/block.h"
#include "verify/greedy_draft.h"
#include "verify/judge.h"
#include "verify/kseq.h"
#include "verify/lenient.h"
#include "verify/rejection.h"
#include "verify/traversal.h"
#include "verify/typical.h"

namespace forerun {
namespace {

constexpr Method kMethods[] = {
    {"match", "keeps the branch that the target itself would have written, token for token",
     "arXiv 2408.07978"},
    {"rejection", "tests the drawn tokens of a chain one by one by p / q (speculative sampling)",
     "arXiv 2211.17192, 2302.01318"},
    {"specinfer", "tests independent draws of a tree in several rounds", "arXiv 2305.09781"},
    {"kseq", "tests independent draws by one threshold, whole chains at once (SpecTr)",
     "arXiv 2310.15141"},
    {"swor", "tests draws without replacement, q renormalised after each (RSD)",
     "arXiv 2402.14160"},
    {"greedy-draft", "tests one draw among the most likely tokens, the most it can accept",
     "arXiv 2502.18779"},
    {"block", "keeps a drawn chain by its running ratio, not token by token", "arXiv 2403.10444"},
    {"traversal", "block verification of a tree drawn without replacement, leaves first",
     "arXiv 2505.12398"},
    {"typical", "keeps what the target finds typical enough; changes the text", "arXiv 2401.10774",
     false},
    {"lenient", "rejection with an eased target; changes the text", "arXiv 2211.17192, 2310.08461",
     false},
    {"judge", "keeps what a head finds correct too; changes the text", "arXiv 2501.19309", false},
};

using Rule = RejectionVerifier::Rule;

std::unique_ptr<Verifier> make(const std::string& name, const Settings& settings,
                               std::shared_ptr<const JudgeHead> judge) {
  if (name == "match") return std::make_unique<MatchVerifier>();
  if (name == "rejection") return std::make_unique<RejectionVerifier>(Rule::kChain);
  if (name == "specinfer") return std::make_unique<RejectionVerifier>(Rule::kIndependent);
  if (name == "swor") return std::make_unique<RejectionVerifier>(Rule::kWithoutReplacement);
  if (name == "kseq") return std::make_unique<KseqVerifier>();
  if (name == "greedy-draft") return std::make_unique<GreedyDraftVerifier>();
  if (name == "block") return std::make_unique<BlockVerifier>();
  if (name == "traversal") return std::make_unique<TraversalVerifier>();
  if (name == "typical") return std::make_unique<TypicalVerifier>(settings);
  if (name == "lenient") return std::make_unique<LenientVerifier>(settings);
  if (name == "judge") return std::make_unique<JudgeVerifier>(std::move(judge), settings);
  std::string names;
  for (const Method& method : kMethods) {
    names += std::string(names.empty() ? "" : ", ") + method.name;
  }
  throw Error(ErrorKind::kBadArgument, "unknown verifier '" + name + "', expected one of " + names);
}

}  // namespace

std::span<const Method> verifier_methods() { return kMethods; }

std::unique_ptr<Verifier> make_verifier(const std::string& name, const MethodOptions& options,
                                        std::shared_ptr<const JudgeHead> judge) {
  const Settings settings(name, options);
  std::unique_ptr<Verifier> verifier = make(name, settings, std::move(judge));
  // None of these has options; "greedy-draft" is a policy too, whose options are not for here.
  if (verifier->lossless() && name != "greedy-draft") settings.done();
  return verifier;
}

std::span<const Proposal> Verifier::proposals() const {
  static constexpr Proposal kAny[] = {Proposal::kDeterministic};
  return kAny;
}

void MatchVerifier::verify(const DraftTree& tree, const NodeLogits& logits, int64_t position,
                           Sampler& sampler, Verdict& verdict) {
  verdict.path.clear();
  int32_t node = DraftTree::kRoot;
  for (;; ++position) {
    verdict.path.push_back(node);
    const int32_t token =
        logits.chosen != nullptr ? logits.chosen[node] : sampler.sample(logits.row(node), position);
    sampler.push(token);
    node = tree.child_with(node, token);
    if (node < 0) {
      verdict.bonus = token;
      return;
    }
  }
}

}  // namespace forerun
