#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/token_law.h"
#include "draft/drafter.h"

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

// Says where a branch ends, by a threshold. A rule sees only what is known before the next token is
// drawn: the guesses so far (a guess that was made is kept, the branch stops after it) and the law
// of the next. So it is legal under every verifier (docs/methods.md). Rules hold no state.
class StopRule {
 public:
  virtual ~StopRule() = default;
  // Before pool[node] is looked at further: nothing is computed for it when this holds.
  virtual bool before_open(std::span<const Guess> pool, int32_t node, double threshold) const {
    (void)pool, (void)node, (void)threshold;
    return false;
  }
  // What it needs of the source of guesses for before_draw: q, and Guess::survival.
  virtual bool reads_law() const { return false; }
  virtual bool reads_survival() const { return false; }
  // Before children of an opened guess are drawn or chosen from q, which is empty unless some rule
  // reads it.
  virtual bool before_draw(const Guess& guess, const TokenLaw& q, double threshold) const {
    (void)guess, (void)q, (void)threshold;
    return false;
  }
};

// Stops after a guess of probability below the threshold (Kangaroo, arXiv 2404.18911).
class ConfidenceStop final : public StopRule {
 public:
  bool before_open(std::span<const Guess> pool, int32_t node, double threshold) const override;
};

// Stops where the entropy H of q bounds the acceptance too low: 1 - sqrt(0.2 H) below the threshold
// (AdaEDL, arXiv 2410.18351).
class EntropyStop final : public StopRule {
 public:
  bool reads_law() const override { return true; }
  bool before_draw(const Guess& guess, const TokenLaw& q, double threshold) const override;
};

// Stops where some guess of the path is rejected with a probability above the threshold, as a head
// of the draft predicts (SpecDec++, arXiv 2405.19715). It reads the draft's state after the guess,
// so that the guess is opened and kept.
class HeadStop final : public StopRule {
 public:
  bool reads_survival() const override { return true; }
  bool before_draw(const Guess& guess, const TokenLaw& q, double threshold) const override;
};

// The threshold of a rule, one that stays or one that follows the text: it rises while less than
// 0.9 of the drafted depth is accepted, and falls while more is and the rule still ended branches
// (Draft & Verify, arXiv 2309.08168, with the constants of its code). What it is in a
// step depends on earlier steps only, so that the rule stays legal.
class StopThreshold {
 public:
  StopThreshold(double value, bool adapts) : value_(value), adapts_(adapts) {}
  double value() const { return value_; }
  // share: of the drafted depth, accepted; ended: whether a rule ended a branch of that tree.
  void learn(double share, bool ended);

 private:
  double value_;
  bool adapts_;
  double accepted_ = 0.0;  // the share, averaged over steps
};

// Several rules, as one sequence uses them; a branch ends where one of them says so.
class StopRules {
 public:
  void add(std::shared_ptr<const StopRule> rule, StopThreshold threshold) {
    rules_.push_back({std::move(rule), threshold});
  }
  bool before_open(std::span<const Guess> pool, int32_t node);
  bool reads_law() const;
  bool reads_survival() const;
  bool before_draw(const Guess& guess, const TokenLaw& q);
  // The truth about the last tree, in which `of` marks the guesses that these rules ended.
  void observe(const Observation& truth, DraftSource of);

 private:
  struct Entry {
    std::shared_ptr<const StopRule> rule;
    StopThreshold threshold;
  };
  std::vector<Entry> rules_;
  bool ended_ = false;            // a branch of the tree at hand
  std::vector<int32_t> drafted_;  // scratch: guesses of the source down to a node
};

// "confidence:0.6", "entropy:0.3", "head:0.3", or several joined by "+"; without a number 0.4, 0.3
// and 0.3. ":adapt" after the first two has the threshold follow the text. Error(kBadArgument)
// naming `option`.
StopRules parse_stop(const std::string& option, const std::string& text);

}  // namespace forerun
