#include "base/dice.h"

namespace forerun {

bool StepDice::accept(double p, double q) {
  const double u = random_unit(seed_, position_, thrown_++, coins_);
  return u * q < p;  // u may be 0: strict, so that p = 0 is never accepted
}

size_t StepDice::pick(std::span<const double> weights) {
  double total = 0.0;
  for (const double weight : weights) total += weight > 0.0 ? weight : 0.0;
  double left = random_unit(seed_, position_, thrown_++, picks_) * total;
  size_t last = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!(weights[i] > 0.0)) continue;
    last = i;
    if (left < weights[i]) return i;
    left -= weights[i];
  }
  return last;  // rounding used up the total
}

double StepDice::uniform() { return 1.0 - random_unit(seed_, position_, thrown_++, picks_); }

}  // namespace forerun
