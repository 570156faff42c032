#pragma once

#include <cstdint>
#include <span>

namespace forerun {

// How the children of a node came to be; a verifier is legal for some of these only
// (docs/methods.md).
enum class Proposal : uint8_t {
  kDeterministic,       // chosen: top-k, look-ups, or draws whose law nobody needs
  kIndependent,         // n draws from q, duplicates are one node with several draws
  kWithoutReplacement,  // n draws, each from q without the tokens drawn before
  kTopAndSample,        // n - 1 chosen tokens, then one draw from q without them
};
const char* proposal_name(Proposal proposal);  // "deterministic", "independent draws", ...

// The law from which the children of a node were drawn: q, sparse, sums to 1. The tokens are in no
// order.
struct DrawLaw {
  Proposal proposal = Proposal::kDeterministic;
  std::span<const int32_t> tokens;
  std::span<const double> q;
};

}  // namespace forerun
