#include "draft/stop_rule.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/math.h"

namespace forerun {

bool ConfidenceStop::before_open(std::span<const Guess> pool, int32_t node) const {
  return node > 0 && pool[node].q < threshold_;
}

bool EntropyStop::before_draw(const Guess&, const TokenLaw& q) const {
  constexpr double kShare = 0.2;  // the paper's gamma
  double entropy = 0.0;
  for (const double x : q.probability) {
    if (x > 0.0) entropy -= x * exact_log(x);
  }
  return 1.0 - std::sqrt(kShare * entropy) < threshold_;
}

bool HeadStop::before_draw(const Guess& guess, const TokenLaw&) const {
  return 1.0 - double{guess.survival} > threshold_;
}

bool StopRules::before_open(std::span<const Guess> pool, int32_t node) const {
  return std::any_of(rules_.begin(), rules_.end(),
                     [&](const auto& rule) { return rule->before_open(pool, node); });
}

bool StopRules::reads_law() const {
  return std::any_of(rules_.begin(), rules_.end(),
                     [](const auto& rule) { return rule->reads_law(); });
}

bool StopRules::reads_survival() const {
  return std::any_of(rules_.begin(), rules_.end(),
                     [](const auto& rule) { return rule->reads_survival(); });
}

bool StopRules::before_draw(const Guess& guess, const TokenLaw& q) const {
  return std::any_of(rules_.begin(), rules_.end(),
                     [&](const auto& rule) { return rule->before_draw(guess, q); });
}

StopRules parse_stop(const std::string& option, const std::string& text) {
  StopRules rules;
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorKind::kBadArgument, "option " + option + " is '" + text + "': " + why);
  };
  for (size_t at = 0; !text.empty() && at <= text.size();) {
    const size_t end = std::min(text.find('+', at), text.size());
    const std::string part = text.substr(at, end - at);
    at = end + 1;
    const std::string name = part.substr(0, part.find(':'));
    double threshold = name == "confidence" ? 0.4 : 0.3;
    if (name.size() < part.size()) {
      const char* last = part.data() + part.size();
      const auto read = std::from_chars(part.data() + name.size() + 1, last, threshold);
      if (read.ec != std::errc() || read.ptr != last || !(threshold >= 0.0 && threshold <= 1.0)) {
        fail("expected NAME:NUMBER with a number from 0 to 1");
      }
    }
    if (name == "confidence") {
      rules.add(std::make_shared<ConfidenceStop>(threshold));
    } else if (name == "entropy") {
      rules.add(std::make_shared<EntropyStop>(threshold));
    } else if (name == "head") {
      rules.add(std::make_shared<HeadStop>(threshold));
    } else {
      fail("expected confidence, entropy or head, joined by '+'");
    }
  }
  return rules;
}

}  // namespace forerun
