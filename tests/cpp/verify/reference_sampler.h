#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <vector>

#include "base/random.h"
#include "base/sampling.h"

namespace forerun::test {

// The sampling rules written down again, slowly: full sorts, double, the C library's exp.
struct ReferenceSampler {
  Sampling sampling;
  std::map<int32_t, int32_t> seen, output;

  std::vector<double> adjusted(const std::vector<float>& logits) const {
    std::vector<double> z(logits.begin(), logits.end());
    for (size_t i = 0; i < z.size(); ++i) {
      if (std::isnan(z[i])) z[i] = -INFINITY;
      const int32_t token = static_cast<int32_t>(i);
      if (seen.count(token)) {
        z[i] = z[i] > 0 ? z[i] / sampling.repetition_penalty : z[i] * sampling.repetition_penalty;
      }
      if (output.count(token)) {
        z[i] -= static_cast<double>(sampling.frequency_penalty) * output.at(token);
        z[i] -= sampling.presence_penalty;
      }
      for (const auto& [biased, bias] : sampling.logit_bias) {
        if (biased == token) z[i] += bias;
      }
    }
    return z;
  }

  // Probabilities after all filters; temperature above 0.
  std::vector<double> probabilities(const std::vector<float>& logits) const {
    const std::vector<double> z = adjusted(logits);
    std::vector<size_t> rank(z.size());
    std::iota(rank.begin(), rank.end(), size_t{0});
    std::stable_sort(rank.begin(), rank.end(), [&](size_t a, size_t b) { return z[a] > z[b]; });
    std::vector<double> p(z.size());
    const auto weight = [&](size_t i) {
      return std::exp((z[i] - z[rank[0]]) / sampling.temperature);
    };
    if (sampling.top_k > 0) rank.resize(std::min(rank.size(), static_cast<size_t>(sampling.top_k)));
    double total = 0;
    for (const size_t i : rank) total += weight(i);
    double mass = 0;
    size_t kept = 0;
    while (kept < rank.size() && (kept == 0 || mass < sampling.top_p * total)) {
      mass += weight(rank[kept++]);
    }
    if (sampling.top_p < 1.0F) rank.resize(kept);
    for (const size_t i : rank) {
      if (weight(i) >= sampling.min_p) p[i] = weight(i);
    }
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& value : p) value /= sum;
    return p;
  }
};

// G statistic of counts against expected probabilities; cells expecting fewer than 5 are merged.
// Returns a normal deviate (Wilson-Hilferty), so that 3.72 is a level of 1e-4.
inline double g_test(const std::vector<int64_t>& counts, const std::vector<double>& p) {
  const double n = static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  double g = 0, rare_count = 0, rare_p = 0;
  int cells = 0;
  const auto add = [&](double count, double expected) {
    ++cells;
    if (count > 0) g += 2 * count * std::log(count / expected);
  };
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0 && counts[i] > 0) return INFINITY;
    if (p[i] * n >= 5) {
      add(static_cast<double>(counts[i]), p[i] * n);
    } else {
      rare_count += static_cast<double>(counts[i]);
      rare_p += p[i];
    }
  }
  if (rare_p * n >= 5) add(rare_count, rare_p * n);
  if (cells < 2) return 0;
  const double freedom = cells - 1, h = 2.0 / (9.0 * freedom);
  return (std::cbrt(g / freedom) - (1 - h)) / std::sqrt(h);
}

}  // namespace forerun::test
