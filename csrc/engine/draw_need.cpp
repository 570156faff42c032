#include "engine/draw_need.h"

#include "base/error.h"

namespace forerun {

DrawNeed agree_on_draws(const Verifier& verifier, const Drafter& drafter, const std::string& draft,
                        const std::string& policy) {
  std::string wanted;
  for (const Proposal proposal : verifier.proposals()) {
    const DrawNeed need{proposal, verifier.chains_only()};
    if (drafter.draws(need)) return need;
    wanted += (wanted.empty() ? "" : " or ") + std::string(proposal_name(proposal));
  }
  throw Error(ErrorKind::kBadArgument,
              "verify '" + verifier.name() + "' tests p / q and needs " + wanted +
                  (verifier.chains_only() ? ", one child per node" : "") + "; draft '" + draft +
                  "' with policy '" + policy +
                  "' proposes otherwise, and the test would then change the text. Use one draft "
                  "model with a policy that draws so (docs/methods.md), or verify 'match'");
}

}  // namespace forerun
