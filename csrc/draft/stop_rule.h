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
  virtual bool reads_law() const { return false; }
  // Before its children are drawn or chosen from q.
  virtual bool before_draw(const TokenLaw& q) const {
    (void)q;
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
  bool before_draw(const TokenLaw& q) const override;

 private:
  double threshold_;
};

// Predicts whether the target accepts a guess given that it accepts the guesses before it.
class AcceptanceHead {
 public:
  virtual ~AcceptanceHead() = default;
  virtual double acceptance(std::span<const Guess> pool, int32_t node) const = 0;  // in [0, 1]
};

// Stops where some guess of the path is rejected with a probability above the threshold, by a head
// (SpecDec++, arXiv 2405.19715).
class HeadStop final : public StopRule {
 public:
  HeadStop(std::shared_ptr<const AcceptanceHead> head, double threshold);
  bool before_open(std::span<const Guess> pool, int32_t node) const override;

 private:
  std::shared_ptr<const AcceptanceHead> head_;
  double threshold_;
};

// Several rules; a branch ends where one of them says so. Copies share the rules, which hold no
// state.
class StopRules {
 public:
  void add(std::shared_ptr<const StopRule> rule) { rules_.push_back(std::move(rule)); }
  bool before_open(std::span<const Guess> pool, int32_t node) const;
  bool reads_law() const;
  bool before_draw(const TokenLaw& q) const;

 private:
  std::vector<std::shared_ptr<const StopRule>> rules_;
};

// "confidence:0.6", "entropy:0.3", or both joined by "+"; without a number 0.4 and 0.3. "head" is
// refused: no file holds one yet. Error(kBadArgument) naming `option`.
StopRules parse_stop(const std::string& option, const std::string& text);

}  // namespace forerun
