#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace forerun {

// A distribution over tokens. Sparse: `tokens` ascending, the others have probability 0. Dense:
// `tokens` empty, probability[i] belongs to token i.
struct TokenLaw {
  std::vector<int32_t> tokens;
  std::vector<double> probability;

  int32_t token(size_t index) const {
    return tokens.empty() ? static_cast<int32_t>(index) : tokens[index];
  }
  int64_t find(int32_t token) const {  // its index, -1 when it is not listed
    if (tokens.empty()) return token < static_cast<int64_t>(probability.size()) ? token : -1;
    const auto found = std::lower_bound(tokens.begin(), tokens.end(), token);
    return found == tokens.end() || *found != token ? -1 : found - tokens.begin();
  }
  double of(int32_t token) const {
    const int64_t index = find(token);
    return index < 0 ? 0.0 : probability[static_cast<size_t>(index)];
  }
  void clear() {
    tokens.clear();
    probability.clear();
  }
};

}  // namespace forerun
