#include "sched/expected_tree.h"

#include <algorithm>
#include <cmath>
#include <queue>

namespace forerun {

double Acceptance::of_rank(int32_t rank) const {
  return rank == 0 ? best : (1.0 - best) * rest * std::pow(1.0 - rest, rank - 1);
}

double Acceptance::among(int32_t guesses) const {
  return guesses <= 0 ? 0.0 : 1.0 - (1.0 - best) * std::pow(1.0 - rest, guesses - 1);
}

ExpectedTree expected_tree(const Acceptance& acceptance, int32_t nodes, int32_t depth,
                           int32_t width) {
  struct Guess {
    double value;
    int32_t depth, rank, parent;
    bool operator<(const Guess& other) const { return value < other.value; }
  };
  ExpectedTree tree;
  std::priority_queue<Guess> open;
  std::vector<double> value = {1.0};
  std::vector<bool> is_leaf = {true};
  const auto offer = [&](double parent_value, int32_t at, int32_t rank, int32_t parent) {
    if (at <= depth && rank < width) {
      open.push({parent_value * acceptance.of_rank(rank), at, rank, parent});
    }
  };
  offer(1.0, 1, 0, 0);
  while (tree.nodes < nodes && !open.empty()) {
    const Guess guess = open.top();
    open.pop();
    const auto index = static_cast<int32_t>(value.size());
    value.push_back(guess.value);
    tree.values.push_back(guess.value);
    is_leaf.push_back(true);
    is_leaf[static_cast<size_t>(guess.parent)] = false;
    tree.tokens += guess.value;
    tree.nodes += 1;
    tree.depth = std::max(tree.depth, guess.depth);
    offer(guess.value, guess.depth + 1, 0, index);
    offer(value[static_cast<size_t>(guess.parent)], guess.depth, guess.rank + 1, guess.parent);
  }
  for (size_t i = 1; i < value.size(); ++i) {
    if (is_leaf[i]) tree.leaf_ends.push_back(value[i]);
  }
  std::sort(tree.leaf_ends.rbegin(), tree.leaf_ends.rend());
  return tree;
}

Acceptance acceptance_for(double tokens, int32_t nodes, int32_t depth, double rest) {
  double low = 0.0, high = 1.0;
  for (int i = 0; i < 60; ++i) {
    const double middle = 0.5 * (low + high);
    const bool enough = expected_tree({middle, rest}, nodes, depth).tokens >= tokens;
    (enough ? high : low) = middle;
  }
  return {high, rest};
}

}  // namespace forerun
