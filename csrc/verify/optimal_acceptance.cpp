#include "verify/optimal_acceptance.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

namespace forerun {
namespace {

std::vector<double> normalised(std::span<const double> weights, const char* name) {
  double sum = 0.0;
  for (const double weight : weights) {
    if (!(weight >= 0.0) || !std::isfinite(weight)) {
      throw Error(ErrorKind::kBadArgument, std::string("optimal acceptance: ") + name + " holds " +
                                               std::to_string(weight) +
                                               ", expected finite weights of at least 0");
    }
    sum += weight;
  }
  if (!(sum > 0.0) || !std::isfinite(sum)) {
    throw Error(ErrorKind::kBadArgument, std::string("optimal acceptance: the sum of ") + name +
                                             " is " + std::to_string(sum) +
                                             ", expected a finite number above 0");
  }
  std::vector<double> out(weights.begin(), weights.end());
  for (double& weight : out) weight /= sum;
  return out;
}

// Pr[the first n arrivals are in H] for a growing H: over t = exp(s), the number of arrivals in H
// by time t is a sum of independent events of probability 1 - exp(-q t), and the first arrival
// outside comes at the rate 1 - q(H).
class ArrivalsInside {
 public:
  explicit ArrivalsInside(int32_t n) : n_(static_cast<size_t>(n)) {
    for (double s = kFirst; s <= kLast; s += kStep) times_.push_back(std::exp(s));
    fewer_.assign(times_.size() * n_, 0.0);
    for (size_t i = 0; i < times_.size(); ++i) fewer_[i * n_] = 1.0;
  }

  void add(double q) {
    inside_ += q;
    for (size_t i = 0; i < times_.size(); ++i) {
      const double misses = std::exp(-q * times_[i]), hits = -std::expm1(-q * times_[i]);
      double* fewer = &fewer_[i * n_];
      for (size_t j = n_; j-- > 1;) fewer[j] = fewer[j] * misses + fewer[j - 1] * hits;
      fewer[0] *= misses;
    }
  }

  double probability() const {
    const double rate = 1.0 - inside_;
    if (rate < kNoRate) return 1.0;
    double sum = 0.0;
    for (size_t i = 0; i < times_.size(); ++i) {
      const double* fewer = &fewer_[i * n_];
      const double enough = 1.0 - std::accumulate(fewer, fewer + n_, 0.0);
      sum += rate * times_[i] * std::exp(-rate * times_[i]) * enough;
    }
    return sum * kStep;
  }

 private:
  static constexpr double kFirst = -30.0, kLast = 34.0, kStep = 0.2;
  static constexpr double kNoRate = 1e-12;

  size_t n_;
  std::vector<double> times_;
  std::vector<double> fewer_;  // [times, n]: probability of exactly j arrivals, j < n
  double inside_ = 0.0;
};

}  // namespace

double optimal_acceptance(std::span<const double> p_weights, std::span<const double> q_weights,
                          int32_t n, bool replacement) {
  if (p_weights.size() != q_weights.size() || n < 1) {
    throw Error(ErrorKind::kBadArgument,
                "optimal acceptance: " + std::to_string(p_weights.size()) + " and " +
                    std::to_string(q_weights.size()) + " tokens, " + std::to_string(n) +
                    " draws; expected as many tokens in p as in q, and at least one draw");
  }
  const std::vector<double> p = normalised(p_weights, "p"), q = normalised(q_weights, "q");
  std::vector<size_t> order;
  for (size_t x = 0; x < q.size(); ++x) {
    if (q[x] > 0.0) order.push_back(x);  // a token that is never drawn only adds to p(H)
  }
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return p[a] * q[b] < p[b] * q[a]; });
  const auto draws = replacement ? n : std::min(n, static_cast<int32_t>(order.size()));
  ArrivalsInside arrivals(draws);
  double least = 0.0, p_inside = 0.0, q_inside = 0.0;
  for (size_t i = 0; i < order.size(); ++i) {
    p_inside += p[order[i]];
    q_inside += q[order[i]];
    double all_inside = std::pow(std::min(q_inside, 1.0), n);
    if (!replacement) {
      arrivals.add(q[order[i]]);
      all_inside = i + 1 == order.size() ? 1.0 : arrivals.probability();
    }
    least = std::min(least, p_inside - all_inside);
  }
  return 1.0 + least;
}

}  // namespace forerun
