#include "verify/filters.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "backend/vocabulary.h"
#include "base/math.h"

namespace forerun {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct BetterRank {
  std::span<const float> logits;
  bool operator()(int32_t a, int32_t b) const {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  }
};

double mass(std::span<const float> logits, std::span<const int32_t> ids, float best,
            float temperature) {
  double sum = 0.0;
  for (const int32_t id : ids) sum += exact_exp(scaled(logits[id], best, temperature));
  return sum;
}

// Length of the shortest prefix of `ranked` whose mass reaches `wanted`, or -1 when all of it does
// not.
int64_t prefix_with_mass(std::span<const float> logits, std::span<const int32_t> ranked,
                         float temperature, double wanted) {
  const float best = logits[ranked.front()];
  double sum = 0.0;
  for (size_t i = 0; i < ranked.size(); ++i) {
    sum += exact_exp(scaled(logits[ranked[i]], best, temperature));
    if (sum >= wanted) return static_cast<int64_t>(i) + 1;
  }
  return -1;
}

}  // namespace

int32_t best_token(std::span<const float> logits) {
  const auto count = static_cast<int64_t>(logits.size());
  return static_cast<int32_t>(vocabulary_kernels().largest(logits.data(), count));
}

void keep_top_k(std::span<const float> logits, int32_t k, std::vector<int32_t>& kept) {
  const BetterRank better{logits};
  const size_t count = static_cast<size_t>(std::max(k, 1));
  const size_t room = std::min(logits.size(), 2 * count + 64);
  kept.clear();
  kept.reserve(room);
  const VocabularyKernels& kernels = vocabulary_kernels();
  float threshold =
      kMinusInfinity;  // a token must be above it, or equal it before `count` are kept
  const auto size = static_cast<int64_t>(logits.size());
  for (int64_t id = 0; id < size; ++id) {
    id = kernels.find_above(logits.data(), id, size, threshold);
    if (id == size) break;
    kept.push_back(static_cast<int32_t>(id));
    if (kept.size() < room || room == logits.size()) continue;
    // Later tokens have higher ids, so that one equal to the worst kept token ranks below it.
    std::nth_element(kept.begin(), kept.begin() + static_cast<int64_t>(count) - 1, kept.end(),
                     better);
    kept.resize(count);
    threshold = logits[kept[count - 1]];
  }
  if (kept.size() > count) {
    std::nth_element(kept.begin(), kept.begin() + static_cast<int64_t>(count), kept.end(), better);
    kept.resize(count);
  }
  std::sort(kept.begin(), kept.end(), better);
}

void cut_top_p(std::span<const float> logits, float temperature, double p,
               std::vector<int32_t>& ranked) {
  if (ranked.empty() || p >= 1.0) return;
  const double total = mass(logits, ranked, logits[ranked.front()], temperature);
  const int64_t length = prefix_with_mass(logits, ranked, temperature, p * total);
  if (length > 0) ranked.resize(static_cast<size_t>(length));
}

// A histogram of the mass over the distance from the best logit bounds how many tokens must be
// ranked.
void keep_top_p(std::span<const float> logits, float temperature, double p,
                std::vector<int32_t>& kept) {
  constexpr int kBins = 321;
  constexpr float kBinsPerNat = 8.0F;
  std::array<double, kBins> mass_of{};
  std::array<int32_t, kBins> count_of{};
  const float best = logits[best_token(logits)];
  double total = 0.0;
  for (const float logit : logits) {
    if (!(logit > kMinusInfinity)) continue;
    const float z = scaled(logit, best, temperature);
    const auto bin = static_cast<size_t>(std::min(-z * kBinsPerNat, kBins - 1.0F));
    const double weight = exact_exp(z);
    mass_of[bin] += weight;
    count_of[bin] += 1;
    total += weight;
  }
  double reached = 0.0;
  int32_t needed = 0;
  for (size_t bin = 0; bin < kBins; ++bin) {
    reached += mass_of[bin];
    needed += count_of[bin];
    // Sums in another order differ by rounding: where this one only just suffices, one more bin is
    // ranked.
    if (reached < p * total * (1.0 + 1e-9) || count_of[bin] == 0) continue;
    break;
  }
  keep_top_k(logits, needed, kept);
  if (kept.empty()) return;
  const int64_t length = prefix_with_mass(logits, kept, temperature, p * total);
  if (length > 0) kept.resize(static_cast<size_t>(length));
}

bool in_top_p(std::span<const float> logits, int32_t best, float temperature, double p,
              int32_t token) {
  if (token == best || p >= 1.0) return true;
  const VocabularyKernels& kernels = vocabulary_kernels();
  const auto count = static_cast<int64_t>(logits.size());
  NoiseScan scan;
  scan.logits = logits.data();
  scan.count = count;
  scan.best = logits[best];
  scan.temperature = temperature;
  const float least = logits[token];  // equal logits rank by their ids
  const Mass before = kernels.mass(scan, 0, token, least);
  const Mass after = kernels.mass(scan, token, count,
                                  std::nextafter(least, std::numeric_limits<float>::infinity()));
  return before.above + after.above < p * (before.total + after.total);
}

bool passes_min_p(float logit, float best, float temperature, double log_min_p) {
  return static_cast<double>(scaled(logit, best, temperature)) >= log_min_p;
}

}  // namespace forerun
