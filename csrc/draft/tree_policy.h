#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/method.h"
#include "draft/drafter.h"
#include "tree/draft_tree.h"

namespace forerun {

// A guess that may become a node of the tree. Entry 0 of a pool is the root; parent < own index.
struct Guess {
  int32_t parent = -1;
  int32_t token = 0;
  int32_t depth = 0;
  int32_t rank = 0;    // 0: the best child of its parent
  float score = 1.0F;  // estimated acceptance given that the parent is accepted
  float value = 1.0F;  // product of the scores along the path
};

// Where guesses come from: a table, or a draft model that forwards a level at a time.
class ChildSource {
 public:
  virtual ~ChildSource() = default;
  // Announces all nodes of a frontier before their children are asked for. The pool is valid during
  // the call only.
  virtual void open(std::span<const Guess> pool, std::span<const int32_t> frontier) {
    (void)pool, (void)frontier;
  }
  // Appends to `children` the up to `width` best guesses after pool[node], best first, distinct;
  // only token and score (the source's q) are read.
  virtual void children(std::span<const Guess> pool, int32_t node, int32_t width,
                        std::vector<Guess>& children) = 0;
  virtual int32_t most_nodes() const { return INT32_MAX; }  // of a frontier
  // Whether one more level pays when its parents are accepted with probability `reach` in total.
  virtual bool pays(double reach, const Budget& budget) const {
    (void)reach, (void)budget;
    return true;
  }
};

// How a tree grows: how many children a node gets, what they are worth, which nodes are grown next.
// What is kept at the end is always the best budget.max_nodes guesses by value, ties to the earlier
// guess (EAGLE-2's rerank; closed under parents since a value never exceeds its parent's).
class TreePolicy {
 public:
  virtual ~TreePolicy() = default;
  virtual std::string name() const = 0;
  virtual std::unique_ptr<TreePolicy> clone() const = 0;
  virtual int32_t width(const Budget& budget) const = 0;
  virtual float score(int32_t rank, float q) const {
    (void)rank;
    return q;
  }
  // The most nodes of a level that are grown further, best value first.
  virtual int32_t beam(const Budget& budget) const = 0;
  // Best possible score of a child: a node is not grown when no child of it could be kept.
  virtual float best_score() const { return 1.0F; }
};

// One child per node.
class ChainPolicy final : public TreePolicy {
 public:
  std::string name() const override { return "chain"; }
  std::unique_ptr<TreePolicy> clone() const override { return std::make_unique<ChainPolicy>(); }
  int32_t width(const Budget&) const override { return 1; }
  int32_t beam(const Budget&) const override { return 1; }
};

// The same tree whatever the scores: the n paths with the largest product of acceptance by rank
// (Medusa, Token Recycling), for any n, grown as the best-first heap would.
class StaticPolicy final : public TreePolicy {
 public:
  // rates[r]: how often the child of rank r is the right one; falling. Error(kBadArgument) when
  // empty.
  explicit StaticPolicy(std::span<const float> rates);
  void set_rates(std::span<const float> rates);  // made falling by a running minimum
  std::string name() const override { return "static"; }
  std::unique_ptr<TreePolicy> clone() const override {
    return std::make_unique<StaticPolicy>(*this);
  }
  int32_t width(const Budget& budget) const override;
  float score(int32_t rank, float q) const override;
  int32_t beam(const Budget& budget) const override { return budget.max_nodes; }
  float best_score() const override { return rates_.front(); }

 private:
  std::vector<float> rates_;
};

// EAGLE-2 (arXiv 2406.16858) with OPT-Tree's stop (arXiv 2406.17276): each level grows the `top_k`
// best nodes by cumulative q, `top_k` children each, as long as a child could still be kept.
class DynamicPolicy final : public TreePolicy {
 public:
  explicit DynamicPolicy(int32_t top_k);  // Error(kBadArgument) below 1
  std::string name() const override { return "dynamic"; }
  std::unique_ptr<TreePolicy> clone() const override {
    return std::make_unique<DynamicPolicy>(*this);
  }
  int32_t width(const Budget& budget) const override;
  int32_t beam(const Budget&) const override { return top_k_; }

 private:
  int32_t top_k_;
};

// Every policy that exists.
std::span<const Method> policy_methods();

// Error(kBadArgument) listing policy_methods() for a name that is none of them.
std::unique_ptr<TreePolicy> make_policy(const std::string& name, int32_t top_k);

// Grows trees; scratch is reused.
class TreeGrower {
 public:
  // Fills `tree`, which holds only its root, with guesses of `source`. At most max_levels levels
  // are opened.
  void grow(const TreePolicy& policy, ChildSource& source, const Budget& budget, int32_t max_levels,
            DraftSource label, DraftTree& tree);

 private:
  void add_children(const TreePolicy& policy, ChildSource& source, const Budget& budget);
  void choose_frontier(const TreePolicy& policy, const Budget& budget, int32_t level_begin,
                       int32_t beam);
  void keep_best(const Budget& budget, DraftSource label, DraftTree& tree);
  bool better(int32_t a, int32_t b) const;

  std::vector<Guess> pool_, children_;
  std::vector<int32_t> frontier_, order_, node_of_;
};

}  // namespace forerun
