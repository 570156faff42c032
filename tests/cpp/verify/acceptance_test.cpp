// How much is accepted at a node: the closed forms of the literature, and the most that is
// possible.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "draft/tree_policy.h"
#include "verify/enumeration.h"
#include "verify/optimal_acceptance.h"
#include "verify/verifier.h"

namespace forerun {
namespace {

using Row = std::vector<double>;

Row random_row(std::mt19937& random, size_t vocab) {
  std::gamma_distribution<double> gamma(0.7, 1.0);
  Row row(vocab);
  for (double& x : row) x = gamma(random) + 1e-6;
  const double sum = std::accumulate(row.begin(), row.end(), 0.0);
  for (double& x : row) x /= sum;
  return row;
}

double overlap(const Row& p, const Row& q) {
  double sum = 0.0;
  for (size_t x = 0; x < p.size(); ++x) sum += std::min(p[x], q[x]);
  return sum;
}

// What a verifier accepts of n draws of a policy at one node.
double accepted(const Row& p, const Row& q, int32_t n, const std::string& name,
                const std::string& policy_name, const MethodOptions& options) {
  const auto vocab = static_cast<int32_t>(p.size());
  test::TableModel target(vocab, 0), drafter(vocab, 0);
  target.set({}, p);
  drafter.set({}, q);
  const auto made = make_verifier(name);
  const auto policy = make_policy(policy_name, 8, options);
  const DrawNeed need{made->proposals()[0], made->chains_only()};
  const test::Emission out =
      test::emission(target, test::drawn(*policy->slots(need), drafter, need.proposal, {n, 1}),
                     test::rule(dynamic_cast<RatioVerifier&>(*made)));
  EXPECT_LT(out.error(target, 1), 1e-12);
  return out.accepted;
}

double independent(const Row& p, const Row& q, int32_t n, const std::string& verifier) {
  return accepted(p, q, n, verifier, "chain", {{"chain.chains", std::to_string(n)}});
}
double removed(const Row& p, const Row& q, int32_t n) {
  return accepted(p, q, n, "swor", "rsd-c", {{"rsd-c.branching", std::to_string(n)}});
}
double greedy(const Row& p, const Row& q, int32_t n) {
  return accepted(p, q, n, "greedy-draft", "greedy-draft",
                  {{"greedy-draft.children", std::to_string(n)}});
}

TEST(Acceptance, OfOneDrawIsTheOverlapOfPAndQ) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 20; ++trial) {
    const Row p = random_row(random, 5), q = random_row(random, 5);
    for (const std::string verifier : {"rejection", "specinfer", "kseq", "block"}) {
      EXPECT_NEAR(independent(p, q, 1, verifier), overlap(p, q), 1e-12) << verifier;
    }
    EXPECT_NEAR(removed(p, q, 1), overlap(p, q), 1e-12);
    EXPECT_NEAR(greedy(p, q, 1), overlap(p, q), 1e-12);
    EXPECT_NEAR(optimal_acceptance(p, q, 1, true), overlap(p, q), 1e-12);
    EXPECT_NEAR(optimal_acceptance(p, q, 1, false), overlap(p, q), 1e-10);
  }
}

TEST(Acceptance, OfSeveralDrawsIsTheClosedFormOfEachRule) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 12; ++trial) {
    const Row p = random_row(random, 4), q = random_row(random, 4);
    const int32_t n = 2 + trial % 2;
    // specinfer: 1 - prod(1 - overlap of what is left with q).
    Row left = p;
    double none = 1.0;
    for (int32_t i = 0; i < n; ++i) {
      none *= 1.0 - overlap(left, q);
      double sum = 0.0;
      for (size_t x = 0; x < left.size(); ++x) sum += left[x] = std::max(left[x] - q[x], 0.0);
      for (double& x : left) x /= sum > 0.0 ? sum : 1.0;
    }
    EXPECT_NEAR(independent(p, q, n, "specinfer"), 1.0 - none, 1e-12);

    // kseq: 1 - (1 - beta(rho))^n at the smallest rho with 1 - (1 - beta)^n <= rho beta.
    const auto beta = [&](double rho) {
      double sum = 0.0;
      for (size_t x = 0; x < p.size(); ++x) sum += std::min(q[x], p[x] / rho);
      return sum;
    };
    double rho = 1.0;
    while (1.0 - std::pow(1.0 - beta(rho), n) > rho * beta(rho)) rho += 1e-5;
    EXPECT_NEAR(independent(p, q, n, "kseq"), 1.0 - std::pow(1.0 - beta(rho), n), 1e-4);

    // greedy-draft: p of the chosen and the overlap outside them.
    std::vector<size_t> order(q.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return q[a] > q[b]; });
    double chosen = 0.0, rest = 0.0;
    for (size_t i = 0; i < order.size(); ++i) {
      (i + 1 < static_cast<size_t>(n) ? chosen : rest) +=
          i + 1 < static_cast<size_t>(n) ? p[order[i]] : q[order[i]];
    }
    double formula = chosen;
    for (size_t i = static_cast<size_t>(n) - 1; i < order.size(); ++i) {
      formula += std::min(p[order[i]], q[order[i]] / rest);
    }
    EXPECT_NEAR(greedy(p, q, n), formula, 1e-12);
  }
}

// Pr[all n draws are in the set], by all ordered tuples.
double all_inside(const Row& q, const std::vector<size_t>& set, int32_t n, bool replacement,
                  double left = 1.0, std::vector<size_t> used = {}) {
  if (n == 0) return 1.0;
  double sum = 0.0;
  for (const size_t x : set) {
    if (std::find(used.begin(), used.end(), x) != used.end()) continue;
    std::vector<size_t> next = used;
    if (!replacement) next.push_back(x);
    sum +=
        q[x] / left * all_inside(q, set, n - 1, replacement, replacement ? 1.0 : left - q[x], next);
  }
  return sum;
}

TEST(OptimalAcceptance, IsTheLeastOverAllSetsOfTokens) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 60; ++trial) {
    const size_t vocab = 3 + static_cast<size_t>(trial % 3);
    const Row p = random_row(random, vocab), q = random_row(random, vocab);
    const auto n = static_cast<int32_t>(1 + trial % 3);
    for (const bool replacement : {true, false}) {
      double least = 0.0;
      for (uint32_t bits = 0; bits < (1U << vocab); ++bits) {
        std::vector<size_t> set;
        double mass = 0.0;
        for (size_t x = 0; x < vocab; ++x) {
          if ((bits >> x & 1U) != 0) set.push_back(x), mass += p[x];
        }
        least = std::min(least, mass - all_inside(q, set, n, replacement));
      }
      EXPECT_NEAR(optimal_acceptance(p, q, n, replacement), 1.0 + least, 1e-10)
          << vocab << " tokens, " << n << " draws, " << replacement;
    }
  }
}

TEST(OptimalAcceptance, BoundsEveryVerifierAndGrowsWithTheDraws) {
  std::mt19937 random(4);
  for (int trial = 0; trial < 10; ++trial) {
    const Row p = random_row(random, 4), q = random_row(random, 4);
    double before = 0.0;
    for (int32_t n = 1; n <= 3; ++n) {
      const double with = optimal_acceptance(p, q, n, true),
                   best = optimal_acceptance(p, q, n, false);
      EXPECT_LE(independent(p, q, n, "specinfer"), with + 1e-10);
      EXPECT_LE(independent(p, q, n, "kseq"), with + 1e-10);
      EXPECT_GE(independent(p, q, n, "kseq"), (1.0 - std::exp(-1.0)) * with);
      EXPECT_LE(removed(p, q, n), best + 1e-10);
      EXPECT_GE(best, before - 1e-10);
      before = best;
    }
    EXPECT_NEAR(optimal_acceptance(p, q, 4, false), 1.0, 1e-10);   // every token is drawn
    EXPECT_NEAR(optimal_acceptance(p, q, 99, false), 1.0, 1e-10);  // and drawing stops
    EXPECT_NEAR(optimal_acceptance(p, p, 1, true), 1.0, 1e-12);
  }
}

TEST(OptimalAcceptance, TakesLargeAndDegenerateLawsAndRefusesWrongOnes) {
  std::mt19937 random(5);
  const Row p = random_row(random, 2000), q = random_row(random, 2000);
  double before = 0.0;
  for (const int32_t n : {1, 2, 8}) {
    const double best = optimal_acceptance(p, q, n, false);
    EXPECT_GT(best, before);
    EXPECT_LE(best, 1.0);
    EXPECT_LE(optimal_acceptance(p, q, n, true), best + 1e-9);
    before = best;
  }
  EXPECT_NEAR(optimal_acceptance(Row{1, 0}, Row{0, 1}, 3, false), 0.0, 1e-12);
  EXPECT_NEAR(optimal_acceptance(Row{1, 3}, Row{2, 6}, 1, true), 1.0, 1e-12);  // normalised here
  EXPECT_THROW(optimal_acceptance(Row{1, 0}, Row{1}, 1, true), Error);
  EXPECT_THROW(optimal_acceptance(Row{1, 0}, Row{1, -1}, 1, true), Error);
  EXPECT_THROW(optimal_acceptance(Row{1, 0}, Row{0, 0}, 1, true), Error);
  EXPECT_THROW(optimal_acceptance(Row{1, NAN}, Row{1, 1}, 1, true), Error);
  EXPECT_THROW(optimal_acceptance(Row{1, 0}, Row{1, 1}, 0, true), Error);
  EXPECT_THROW(optimal_acceptance(Row{}, Row{}, 1, true), Error);
}

}  // namespace
}  // namespace forerun
