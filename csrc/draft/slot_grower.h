#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/dice.h"
#include "base/token_law.h"
#include "draft/tree_policy.h"
#include "tree/draft_tree.h"

namespace forerun {

// The next draw below a node. Whether and when it is made is decided by its value, which is known
// before its token is: that makes draws legal under ratio verifiers (docs/methods.md).
struct Slot {
  static constexpr double kNever = -std::numeric_limits<double>::infinity();

  int32_t node = 0;    // of the pool
  int32_t depth = 0;   // of that node
  int32_t rank = 0;    // draws made below the node
  int32_t copies = 1;  // how often the node itself was drawn, of whole chains
  double value = 1.0;
  double base = 1.0;      // value of the slot that the node was drawn in
  double left = 1.0;      // q of the tokens not drawn yet
  double log_path = 0.0;  // log of the product of q along the path to the node
};

// How a policy draws. Values fall from a slot to those after it.
class SlotRules {
 public:
  virtual ~SlotRules() = default;
  virtual double root() const { return 1.0; }  // value of the first slot
  // Value of the first slot below a token that was drawn in `slot` and had `share` of what was
  // left.
  virtual double below(const Slot& slot, double share) const = 0;
  // Value of the next slot at the same node; rank and left count the draw, value is still the last.
  virtual double beside(const Slot& slot, double share, Dice& dice) const = 0;
  // Slots of a lower value are not drawn.
  virtual double cut(const Budget& budget) const {
    (void)budget;
    return 0.0;
  }
  // Nodes of a level; depth 1 is the first.
  virtual int32_t most_at_depth(const Budget& budget, int32_t depth) const {
    (void)budget, (void)depth;
    return INT32_MAX;
  }
  // The best slot next, also if its node must be looked at first; else level after level.
  virtual bool best_first() const { return false; }
  // kIndependent: the draws of a node whose first slot this is. kTopAndSample: its children.
  virtual int32_t draws(const Slot& first, const Budget& budget) const {
    (void)first, (void)budget;
    return 1;
  }
};

// Grows trees whose children are drawn. Nodes are looked at in batches, as a draft model forwards
// them: level after level, or, best first, up to source.most_nodes() of those that wait when the
// best slot is one of theirs. No draw is made that the budget has no room for, and none is taken
// back. Where fewer tokens are left than draws wanted, drawing stops. Scratch is reused.
class SlotGrower {
 public:
  struct Task {
    Budget budget;
    int32_t max_levels = 0;
    Proposal proposal = Proposal::kWithoutReplacement;
    DraftSource label = DraftSource::kModel;
    StopRules* stop = nullptr;  // may be null
  };

  // Fills `tree`, which holds only its root.
  void grow(const SlotRules& rules, ChildSource& source, const Task& task, Dice& dice,
            DraftTree& tree);

 private:
  struct Waiting {  // a node that was drawn and not looked at
    int32_t node;
    Slot first;
  };
  bool look(const SlotRules& rules, ChildSource& source);
  int32_t room_below(const SlotRules& rules, const Slot& slot) const;  // nodes, of level and budget
  int32_t best_slot(const SlotRules& rules);
  void draw(const SlotRules& rules, size_t index, Dice& dice);
  void draw_next(const SlotRules& rules, size_t index, Dice& dice);
  void draw_all(const SlotRules& rules, const Slot& first, Dice& dice);
  void draw_top_and_sample(const SlotRules& rules, const Slot& first, Dice& dice);
  void make_law(int32_t node, const TokenLaw& law);
  // The node of a token drawn, or chosen, in `slot`; it then waits to be looked at.
  void add(const SlotRules& rules, const Slot& slot, size_t token, double share, bool drawn);

  const Task* task_ = nullptr;  // of the call at hand
  DraftTree* tree_ = nullptr;
  int32_t left_ = 0, levels_ = 0;
  std::vector<Guess> pool_;
  std::vector<int32_t> node_of_;  // pool index -> node of the tree
  std::vector<int32_t> law_of_;   // pool index -> index into laws_, -1
  std::vector<TokenLaw> laws_;    // the first `open_` are in use; drawn tokens are 0 in left_of_
  std::vector<std::vector<double>> left_of_;
  size_t open_ = 0;
  TokenLaw rest_;  // q without the top tokens
  std::vector<Slot> slots_;
  std::vector<Waiting> waiting_;
  std::vector<int32_t> frontier_, at_depth_;
};

}  // namespace forerun
