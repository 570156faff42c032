#pragma once

#include <string>

#include "draft/drafter.h"
#include "verify/verifier.h"

namespace forerun {

// How a drafter's children must come about so that the verifier is legal for them
// (docs/methods.md). Error(kBadArgument) with the reason where the two do not fit: a ratio test of
// tokens that were chosen, not drawn, would change the text. `draft` and `policy` are names for
// that reason.
DrawNeed agree_on_draws(const Verifier& verifier, const Drafter& drafter, const std::string& draft,
                        const std::string& policy);

}  // namespace forerun
