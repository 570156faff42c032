#include "draft/stop_rule.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/math.h"

namespace forerun {

bool ConfidenceStop::before_open(std::span<const Guess> pool, int32_t node,
                                 double threshold) const {
  return node > 0 && pool[node].q < threshold;
}

bool EntropyStop::before_draw(const Guess&, const TokenLaw& q, double threshold) const {
  constexpr double kShare = 0.2;  // the paper's gamma
  double entropy = 0.0;
  for (const double x : q.probability) {
    if (x > 0.0) entropy -= x * exact_log(x);
  }
  return 1.0 - std::sqrt(kShare * entropy) < threshold;
}

bool HeadStop::before_draw(const Guess& guess, const TokenLaw&, double threshold) const {
  return 1.0 - double{guess.survival} > threshold;
}

void StopThreshold::learn(double share, bool ended) {
  constexpr double kWanted = 0.9, kStep = 0.01, kOldShare = 0.5, kOldValue = 0.9;
  if (!adapts_) return;
  accepted_ = kOldShare * accepted_ + (1.0 - kOldShare) * share;
  double next = value_;
  if (accepted_ < kWanted) {
    next += kStep;
  } else if (ended) {
    next -= kStep;
  }
  value_ = std::clamp(kOldValue * value_ + (1.0 - kOldValue) * next, 0.0, 1.0);
}

bool StopRules::before_open(std::span<const Guess> pool, int32_t node) {
  const bool ends = std::any_of(rules_.begin(), rules_.end(), [&](const Entry& entry) {
    return entry.rule->before_open(pool, node, entry.threshold.value());
  });
  ended_ |= ends;
  return ends;
}

bool StopRules::reads_law() const {
  return std::any_of(rules_.begin(), rules_.end(),
                     [](const Entry& entry) { return entry.rule->reads_law(); });
}

bool StopRules::reads_survival() const {
  return std::any_of(rules_.begin(), rules_.end(),
                     [](const Entry& entry) { return entry.rule->reads_survival(); });
}

bool StopRules::before_draw(const Guess& guess, const TokenLaw& q) {
  const bool ends = std::any_of(rules_.begin(), rules_.end(), [&](const Entry& entry) {
    return entry.rule->before_draw(guess, q, entry.threshold.value());
  });
  ended_ |= ends;
  return ends;
}

// Depths count the guesses of `of` alone: others may have drafted the nodes between.
void StopRules::observe(const Observation& truth, DraftSource of) {
  if (rules_.empty()) return;
  const DraftTree& tree = *truth.tree;
  drafted_.assign(static_cast<size_t>(tree.size()), 0);
  int32_t deepest = 0;
  for (int32_t node = 1; node < tree.size(); ++node) {
    drafted_[node] = drafted_[tree.parent()[node]] + (tree.source()[node] == of ? 1 : 0);
    deepest = std::max(deepest, drafted_[node]);
  }
  const bool ended = std::exchange(ended_, false);
  if (deepest == 0 || truth.path.empty()) return;
  const double share = static_cast<double>(drafted_[truth.path.back()]) / deepest;
  for (Entry& entry : rules_) entry.threshold.learn(share, ended);
}

StopRules parse_stop(const std::string& option, const std::string& text) {
  StopRules rules;
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorKind::kBadArgument, "option " + option + " is '" + text + "': " + why);
  };
  for (size_t at = 0; !text.empty() && at <= text.size();) {
    const size_t end = std::min(text.find('+', at), text.size());
    std::string_view part = std::string_view(text).substr(at, end - at);
    at = end + 1;
    constexpr std::string_view kAdapt = ":adapt";
    const bool adapts = part.ends_with(kAdapt);
    if (adapts) part.remove_suffix(kAdapt.size());
    const std::string_view name = part.substr(0, part.find(':'));
    double threshold = name == "confidence" ? 0.4 : 0.3;
    if (name.size() < part.size()) {
      const char* last = part.data() + part.size();
      const auto read = std::from_chars(part.data() + name.size() + 1, last, threshold);
      if (read.ec != std::errc() || read.ptr != last || !(threshold >= 0.0 && threshold <= 1.0)) {
        fail("expected NAME:NUMBER with a number from 0 to 1");
      }
    }
    const StopThreshold by(threshold, adapts);
    if (name == "confidence") {
      rules.add(std::make_shared<ConfidenceStop>(), by);
    } else if (name == "entropy") {
      rules.add(std::make_shared<EntropyStop>(), by);
    } else if (name == "head" && !adapts) {
      rules.add(std::make_shared<HeadStop>(), by);
    } else if (name == "head") {
      fail("the threshold of head is the head's to learn, it does not adapt");
    } else {
      fail("expected confidence, entropy or head, joined by '+'");
    }
  }
  return rules;
}

}  // namespace forerun
