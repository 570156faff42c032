#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace forerun {

// What is known about asking a drafter that takes time (or about asking none): an arm of a bandit.
// Its worth is what its steps really brought, tokens per plain step, fading; how large a tree to
// ask it for follows from the average value of the i-th best node of its proposals. An arm that
// does not pay is tried again after 4, 8, ... kMaxInterval steps, or kNearInterval where little is
// missing.
class DraftArm {
 public:
  static constexpr int32_t kMaxInterval = 64, kNearInterval = 16;
  static constexpr int32_t kForget = 1024;
  static constexpr int32_t kPlannedSteps = 20;  // proposals that keep to a planned depth

  // What a plan says of its trees, in place of the usual first guess: the value of the i-th best
  // node, descending, and the levels.
  void expect(std::span<const double> values, int32_t depth);
  // Levels that a proposal should have at most: the planned ones until there is experience.
  int32_t depth() const;

  // tokens per plain step; `expected` is believed for the first few steps.
  double worth(double expected) const {
    return (tokens_ + kPriorSteps * expected) / (spent_ + kPriorSteps);
  }
  void count(double tokens, double spent);  // a step; spent: in plain steps

  std::span<const double> profile(int32_t nodes);  // [nodes] average values, descending
  // ranked: values of a proposal of at most `asked` nodes, best first.
  void learn(std::span<const double> ranked, int32_t asked);

  bool due() const { return until_probe_ <= 0; }
  void wait();                       // a step without it
  void asked(bool paid, bool near);  // near: it is hardly worse than asking none

 private:
  static constexpr double kPriorSteps = 20.0, kFade = 0.95;
  static constexpr double kFirstProfile = 0.7;  // the i-th best node has 0.7^i
  static constexpr double kProfileMove = 0.1, kProfilePrior = 8.0;
  static constexpr int32_t kFirstInterval = 4;

  std::vector<double> planned_;
  int32_t planned_depth_ = 0;  // 0: no plan
  int32_t proposals_ = 0;
  double tokens_ = 0.0, spent_ = 0.0;
  std::vector<double> profile_;
  std::vector<int32_t> seen_;  // how often the i-th was there
  int32_t known_ = 0;          // most nodes ever asked for
  int32_t until_probe_ = 0, interval_ = kFirstInterval, waited_ = 0;
};

}  // namespace forerun
