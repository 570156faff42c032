#pragma once

#include <algorithm>
#include <random>

#include "tree/draft_tree.h"

namespace forerun::test {

// Up to `nodes` drafted nodes with tokens below `vocab`; scores come from a few values, so that
// values tie.
inline DraftTree random_tree(std::mt19937& random, int32_t nodes, int32_t vocab, int32_t root = 0) {
  constexpr float kScores[] = {1.0F, 1.0F, 0.5F, 0.5F, 0.25F, 0.9F};
  DraftTree tree;
  tree.reset(root);
  for (int32_t i = 0; i < nodes; ++i) {
    const int32_t newest = tree.size() - 1;
    const int32_t parent = std::max(0, newest - static_cast<int32_t>(random() % 6));
    tree.add(parent, static_cast<int32_t>(random() % static_cast<uint32_t>(vocab)),
             kScores[random() % 6], DraftSource::kOther);
  }
  return tree;
}

}  // namespace forerun::test
