#pragma once

#include <cstdint>
#include <vector>

namespace forerun {

// How good a drafter's guesses are, before any are made: its best guess is right with probability
// `best` given that its parent was; where it is wrong, the next best has `rest` of what is left,
// and so on down (at most best / (1 - best), or it would be the best). Independent of depth and
// context, which real drafts are not: good for comparing placements, not for predicting a text.
struct Acceptance {
  double best = 0.7;
  double rest = 0.4;

  double of_rank(int32_t rank) const;   // rank 0: the best guess
  double among(int32_t guesses) const;  // one of the first so many is right
};

// The best tree of at most `nodes` drafted nodes, `depth` levels and `width` children a node under
// these probabilities: nodes of largest path probability (optimal, since a product never grows).
struct ExpectedTree {
  double tokens = 1.0;  // emitted a step, the bonus included
  int32_t nodes = 0, depth = 0;
  std::vector<double> values;     // [nodes] probability that the path reaches it, descending
  std::vector<double> leaf_ends;  // probability that the path ends in it, per leaf, largest first
};
ExpectedTree expected_tree(const Acceptance& acceptance, int32_t nodes, int32_t depth,
                           int32_t width = 10);

// The quality of the best guess with which the tree of this size emits so many tokens a step.
Acceptance acceptance_for(double tokens, int32_t nodes, int32_t depth, double rest = 0.4);

}  // namespace forerun
