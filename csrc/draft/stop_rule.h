#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/token_law.h"

namespace forerun {

// A guess that may become a node of the tree. Entry 0 of a pool is the root; parent < own index.
struct Guess {
  int32_t parent = -1;
  int32_t token = 0;
  int32_t depth = 0;
  int32_t rank = 0;    // 0: the best child of its parent, or the first draw
  float score = 1.0F;  // estimated acceptance given that the parent is accepted
  float value = 1.0F;  // product of the scores along the path
  float q = 1.0F;      // the source's own probability of the token
  // Once it was opened: that all guesses down to it are accepted, as the source's head predicts.
  float survival = 1.0F;
};

// Says where a branch ends. A rule sees only what is known before the next token is drawn: the
// guesses so far (a guess that was made is kept, the branch stops after it) and the law of the
// next. So it is legal under every verifier (docs/methods.md).
class StopRule {
 public:
  virtual ~StopRule() = default;
  // Before pool[node] is looked at further: nothing is computed for it when this holds.
  virtual bool before_open(std::span<const Guess> pool, int32_t node) const {
    (void)pool, (void)node;
    return false;
  }
  // What it needs of the source of guesses for before_draw: q, and Guess::survival.
  virtual bool reads_law() const { return false; }
  virtual bool reads_survival() const { return false; }
  // Before children of an opened guess are drawn or chosen from q, which is empty unless some rule
  // reads it.
  virtual bool before_draw(const Guess& guess, const TokenLaw& q) const {
    (void)guess, (void)q;
    return false;
  }
};

// Stops after a guess of probability below the threshold (Kangaroo, arXiv 2404.18911).
class ConfidenceStop final : public StopRule {
 public:
  explicit ConfidenceStop(double threshold) : threshold_(threshold) {}
  bool before_open(std::span<const Guess> pool, int32_t node) const override;

 private:
  double threshold_;
};

// Stops where the entropy H of q bounds the acceptance too low: 1 - sqrt(0.2 H) below the threshold
// (AdaEDL, arXiv 2410.18351; the threshold is fixed here, the budget is the controller's).
class EntropyStop final : public StopRule {
 public:
  explicit EntropyStop(double threshold) : threshold_(threshold) {}
  bool reads_law() const override { return true; }
  bool before_draw(const Guess& guess, const TokenLaw& q) const override;

 private:
  double threshold_;
};

// Stops where some guess of the path is rejected with a probability above the threshold, as a head
// of the draft predicts (SpecDec++, arXiv 2405.19715). It reads the draft's state after the guess,
// so that the guess is opened and kept.
class HeadStop final : public StopRule {
 public:
  explicit HeadStop(double threshold) : threshold_(threshold) {}
  bool reads_survival() const override { return true; }
  bool before_draw(const Guess& guess, const TokenLaw& q) const override;

 private:
  double threshold_;
};

// Several rules; a branch ends where one of them says so. Copies share the rules, which hold no
// state.
class StopRules {
 public:
  void add(std::shared_ptr<const StopRule> rule) { rules_.push_back(std::move(rule)); }
  bool before_open(std::span<const Guess> pool, int32_t node) const;
  bool reads_law() const;
  bool reads_survival() const;
  bool before_draw(const Guess& guess, const TokenLaw& q) const;

 private:
  std::vector<std::shared_ptr<const StopRule>> rules_;
};

// "confidence:0.6", "entropy:0.3", "head:0.3", or several joined by "+"; without a number 0.4, 0.3
// and 0.3. Error(kBadArgument) naming `option`.
StopRules parse_stop(const std::string& option, const std::string& text);

}  // namespace forerun
