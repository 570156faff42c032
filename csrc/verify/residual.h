#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/dice.h"
#include "base/token_law.h"
#include "tree/proposal.h"

namespace forerun {

// What the target still asks for at a node while its children are tested, r, and the law of the
// next draw, s. Both begin as p and q. Since q has few tokens, r differs from a multiple of p on
// them only: a test costs O(tokens of q), whatever the vocabulary ("sparse q"). Weights in double;
// p may be scaled (lenience), r is normalised by the first cut.
class Residual {
 public:
  void begin(const TokenLaw& p, const DrawLaw& q);

  size_t index_of(int32_t token) const;  // of a token of q
  size_t size() const { return r_.size(); }
  double r(size_t i) const { return r_[i]; }
  double s(size_t i) const { return s_[i]; }

  double overlap(double weight) const;  // sum of (weight r - s)+ over all tokens
  // r = norm((weight r - s)+); returns that sum. Where it is 0, p equals q up to rounding and r
  // stays.
  double cut(double weight = 1.0);
  void exclude(size_t i);  // s without token i, renormalised; all 0 when it was the last
  void take(size_t i, double amount);           // r(i) -= amount, at least 0; r is not normalised
  int32_t draw(const TokenLaw& p, Dice& dice);  // from r; p as given to begin()

 private:
  static constexpr double kNothing = 1e-13;  // mass that is rounding of sums near 1

  std::vector<int32_t> tokens_;
  std::vector<double> r_, s_;  // on the tokens of q
  double outside_ = 0.0;       // r of all other tokens together
  std::vector<double> weights_;
};

int32_t draw_token(const TokenLaw& p, Dice& dice);

}  // namespace forerun
