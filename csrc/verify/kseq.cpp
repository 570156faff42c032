#include "verify/kseq.h"

#include <algorithm>
#include <cmath>

namespace forerun {
namespace {

double any_of(double rate, int32_t draws) { return 1.0 - std::pow(1.0 - rate, draws); }

}  // namespace

std::span<const Proposal> KseqVerifier::proposals() const {
  static constexpr Proposal kLegal[] = {Proposal::kIndependent};
  return kLegal;
}

double KseqVerifier::matched(double rho) const {
  double sum = 0.0;
  for (size_t i = 0; i < residual_.size(); ++i) {
    sum += std::min(residual_.s(i), residual_.r(i) / rho);
  }
  return sum;
}

// 1 - (1 - beta)^k - rho beta falls through 0 in [1, k]; the upper end of the bracket keeps the
// residual non-negative.
double KseqVerifier::rho(int32_t draws) const {
  constexpr int kHalvings = 60;
  const auto excess = [&](double rho) {
    const double rate = matched(rho);
    return any_of(rate, draws) - rho * rate;
  };
  double low = 1.0, high = draws;
  if (excess(low) <= 0.0) return low;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = 0.5 * (low + high);
    (excess(middle) <= 0.0 ? high : low) = middle;
  }
  return high;
}

int32_t KseqVerifier::descend(const DraftTree& tree, int32_t node, const TokenLaw& p, Dice& dice,
                              int32_t& bonus) {
  residual_.begin(p, tree.law(node));
  tree.draws(node, draws_);
  if (!draws_.empty()) {
    const auto count = static_cast<int32_t>(draws_.size());
    const double factor = rho(count);
    for (const int32_t child : draws_) {
      const size_t i = residual_.index_of(tree.token()[child]);
      if (dice.accept(residual_.r(i), factor * residual_.s(i))) return child;
    }
    const double rate = matched(factor);
    const double share = rate > 0.0 ? any_of(rate, count) / rate : 0.0;
    for (size_t i = 0; i < residual_.size(); ++i) {
      residual_.take(i, share * std::min(residual_.s(i), residual_.r(i) / factor));
    }
  }
  bonus = residual_.draw(p, dice);
  return kStop;
}

}  // namespace forerun
