#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/method.h"
#include "base/settings.h"
#include "base/token_law.h"
#include "draft/drafter.h"
#include "draft/stop_rule.h"
#include "tree/draft_tree.h"

namespace forerun {

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
  // q after pool[node], normalised: what draws are made from. Error(kUnsupported) for a source that
  // has none.
  virtual void law(std::span<const Guess> pool, int32_t node, TokenLaw& q);
  // How likely the target accepts an opened guess given those before it, by a head of the source.
  virtual double acceptance(std::span<const Guess> pool, int32_t node) const {
    (void)pool, (void)node;
    return 1.0;
  }
  virtual int32_t most_nodes() const { return INT32_MAX; }  // of a frontier
  // Whether one more level pays when its parents are accepted with probability `reach` in total.
  virtual bool pays(double reach, const Budget& budget) const {
    (void)reach, (void)budget;
    return true;
  }
};

// Guess::survival of an opened guess.
float survival(const ChildSource& source, std::span<const Guess> pool, int32_t node);

class SlotRules;

// How a tree grows: how many children a node gets, what they are worth, which nodes are grown next.
//
// Chosen children (any tree is legal under match): what is kept at the end is always the best
// budget.max_nodes guesses by value, ties to the earlier guess (EAGLE-2's rerank; closed under
// parents since a value never exceeds its parent's). Drawn children (ratio verifiers): slots() says
// how many are drawn where, before they are drawn, and nothing is dropped afterwards.
class TreePolicy {
 public:
  virtual ~TreePolicy() = default;
  virtual std::string name() const = 0;
  virtual std::unique_ptr<TreePolicy> clone() const = 0;

  virtual int32_t width(const Budget& budget, int32_t depth) const = 0;  // children of such a node
  virtual float score(int32_t rank, float q) const {
    (void)rank;
    return q;
  }
  // The most nodes of a level that are grown further, best value first.
  virtual int32_t beam(const Budget& budget) const = 0;
  // Best possible score of a child: a node is not grown when no child of it could be kept.
  virtual float best_score() const { return 1.0F; }
  // What one more level must have added to the summed value of the kept nodes for another to
  // follow.
  virtual double least_gain() const { return 0.0; }
  // Whether chosen children are ranked with the target's own noise at temperatures above 0.
  virtual bool shares_noise() const { return true; }

  // How children are drawn as a verifier needs them; nullptr when this policy cannot.
  virtual const SlotRules* slots(const DrawNeed& need) const {
    (void)need;
    return nullptr;
  }
  // The truth about a tree in which this policy grew the nodes of the source `of`.
  virtual void observe(const Observation& truth, DraftSource of) { (void)truth, (void)of; }

  StopRules& stop() { return stop_; }
  const StopRules& stop() const { return stop_; }

 private:
  StopRules stop_;
};

// Every policy that exists.
std::span<const Method> policy_methods();

// top_k: children per node of those that have no such option. Options "NAME.key" of the policy, and
// "NAME.stop" of each (draft/stop_rule.h). Error(kBadArgument) listing policy_methods() for a name
// that is none of them, and for wrong options.
std::unique_ptr<TreePolicy> make_policy(const std::string& name, int32_t top_k,
                                        const MethodOptions& options = {});

// Grows trees of chosen children; scratch is reused.
class TreeGrower {
 public:
  // Fills `tree`, which holds only its root, with guesses of `source`. At most max_levels levels
  // are opened.
  void grow(TreePolicy& policy, ChildSource& source, const Budget& budget, int32_t max_levels,
            DraftSource label, DraftTree& tree);

 private:
  void add_children(TreePolicy& policy, ChildSource& source, const Budget& budget);
  void choose_frontier(TreePolicy& policy, const Budget& budget, int32_t level_begin, int32_t beam);
  void rank(int32_t most);  // order_: the best guesses, in no order; all where they are fewer
  void keep_best(const Budget& budget, DraftSource label, DraftTree& tree);
  bool better(int32_t a, int32_t b) const;

  std::vector<Guess> pool_, children_;
  std::vector<int32_t> frontier_, order_, node_of_;
  TokenLaw law_;
};

}  // namespace forerun
