#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/random.h"

namespace forerun {

// All randomness that drawn proposals and ratio verifiers consume. Abstract, so that a test can
// enumerate every outcome instead of drawing one.
class Dice {
 public:
  virtual ~Dice() = default;
  // True with probability min(1, p / q); never for p <= 0. Tests u * q < p, divides nothing.
  virtual bool accept(double p, double q) = 0;
  // An index with probability weights[i] / sum; never one of weight <= 0. The sum is above 0.
  virtual size_t pick(std::span<const double> weights) = 0;
  // Uniform in (0, 1].
  virtual double uniform() = 0;
};

// The dice of one step: pure functions of (seed, position, how many were thrown before). The
// position of the token after the root grows with every step, so that no step repeats the noise of
// another, although both may draw for the same position.
class StepDice final : public Dice {
 public:
  StepDice(uint64_t seed, int64_t position, NoiseStream coins, NoiseStream picks)
      : seed_(seed), position_(position), coins_(coins), picks_(picks) {}
  bool accept(double p, double q) override;
  size_t pick(std::span<const double> weights) override;
  double uniform() override;

 private:
  uint64_t seed_;
  int64_t position_;
  NoiseStream coins_, picks_;
  int32_t thrown_ = 0;
};

}  // namespace forerun
