#pragma once

#include <cstdint>
#include <span>

#include "base/error.h"

namespace forerun {

// The most that any lossless verifier can accept at a node with n draws from q: the dual of the
// transport problem, 1 + min over token sets H of p(H) - Pr[all draws in H], whose minimum is at a
// prefix of the tokens sorted by p / q (Hu et al., arXiv 2502.18779). With replacement Pr = q(H)^n;
// without, the draws are the first n arrivals of clocks with rates q, and Pr is one integral per
// prefix (double exponential quadrature, error below 1e-10). Draws without replacement stop when q
// has no token left. p and q are normalised here. O(V log V), without replacement O(V n) times
// about 300. Error(kBadArgument) for weights that are negative or not finite, sums of 0, sizes that
// differ, n below 1.
FORERUN_API double optimal_acceptance(std::span<const double> p, std::span<const double> q,
                                      int32_t n, bool replacement);

}  // namespace forerun
