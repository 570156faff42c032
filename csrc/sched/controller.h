#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "sched/account.h"
#include "sched/calibration.h"
#include "sched/experience.h"
#include "sched/node_chooser.h"
#include "tree/draft_tree.h"
#include "tree/prune.h"

namespace forerun {

// Decides for one sequence which drafters are asked and how much they may propose; TreeFitter below
// then decides how many nodes are verified, 0 included. Calibrated values (calibration.h) against
// measured costs (cost_model.h) say what pays (node_chooser.h); the account (account.h) bounds what
// may be lost when they are wrong. So that estimates do not go stale:
// - Guesses that were not verified are compared with the truth where it is known: below every node
//   of the accepted path. A table look-up that does not pay thus costs nothing and is still
//   learned about.
// - Of the drafters that take time at most one is asked in a step: the one whose steps brought most
//   (draft_arm.h), if that is more than asking none; one that is not in use must be better by
//   kHysteresis. The others are tried again now and then, and so is asking none. One that must
//   first read the context (a model) is started only when what it gains over the tokens that are
//   likely to follow pays for it.
// - Every Experience::kPlainEvery steps one is plain, so that the yardstick is never old.
class Controller {
 public:
  static constexpr int32_t kStretchEvery = 8;  // a larger tree is asked for than pays
  static constexpr double kHysteresis = 1.05;

  struct Limits {
    int32_t max_nodes = 48;    // never more
    int32_t fixed_nodes = -1;  // >= 0: always this many, no control (tests, benches)
  };
  // The step ahead.
  struct Situation {
    Load plain{1, 0.0, 0.0};  // one row of every sequence of the step
    int32_t context = 0;      // of this sequence
    int32_t room = 0;         // longest useful path: drafted tokens that could still be emitted
  };
  // A drafter that takes time, as it stands now.
  struct Offer {
    DraftSource source = DraftSource::kOther;
    double start_ms = 0.0;                            // before its first guess: a prompt to read
    std::function<double(int32_t nodes)> propose_ms;  // its own estimate
  };
  // sched's own view of a budget; engine/ hands it to draft/.
  struct Allowance {
    int32_t max_nodes = 0;  // of table look-ups; 0: nobody is asked
    int32_t max_depth = 0;
    float min_value = 0.0F;      // product of raw scores that cannot pay, with a wide margin
    double tokens_per_ms = 0.0;  // what a millisecond must bring to be well spent; 0: do not care
    uint32_t asked = ~0U;        // bit per DraftSource: drafters that take time and are asked
    int32_t asked_nodes = 0;     // for them
    int32_t asked_depth = 0;     // ... at most max_depth
  };
  // What a step took of this sequence's account.
  struct Spent {
    Load plain;              // as in Situation
    Load load;               // of the forward
    double verify_ms = 0.0;  // of the forward
    double share = 1.0;      // of the forward's drafted nodes, that are of this sequence
    double draft_ms = 0.0;   // proposing
    double learn_ms = 0.0;   // what drafters learn from the step
  };

  Controller() : Controller(Limits{}) {}
  explicit Controller(Limits limits);

  void reserve();  // scratch, which copies do not inherit, so that steps do not allocate

  Allowance allowance(Experience& known, const Situation& now, std::span<const Offer> offers);

  // After every step, plain ones too: the tree that was verified, its accepted path and the tokens
  // emitted: emitted[i] after path[i].
  void observe(Experience& known, const DraftTree& tree, std::span<const int32_t> path,
               std::span<const int32_t> emitted, const Spent& spent);

  double acceptance(const Experience& known, DraftSource source, float score, int32_t depth) const {
    return local_.acceptance(known.acceptance, source, score, depth);
  }
  const Account& account() const { return account_; }

 private:
  friend class TreeFitter;
  struct Question {  // whom the last allowance asked
    DraftSource source = DraftSource::kRoot;
    int32_t nodes = 0;
    bool starts = false;  // the time to start is not the price of a step
    bool forced = false;  // nothing could be asked
  };
  struct Unverified {
    int32_t parent;  // in the pruned tree
    int32_t token, depth;
    DraftSource source;
    float score;
  };
  struct Size {
    double rate = 0.0;   // tokens per plain step
    double spent = 0.0;  // plain steps beyond the one
    int32_t nodes = 0;   // the best number above 0 within the stake, 0 when there is none
  };
  bool may_draft(const Experience& known, const Load& plain) const;
  double cost(const Experience& known, const Situation& now, const Offer& offer,
              int32_t nodes) const;
  Size best_size(Experience& known, const Situation& now, const Offer& offer) const;
  void choose_arm(Experience& known, const Situation& now, std::span<const Offer> offers);
  bool pays_to_start(const Experience& known, const Situation& now, const Offer& offer,
                     const Size& size, double worth, double unasked) const;
  // Calibrates the tree: values_ by node, ranked_ best first. Nodes deeper than `room` are worth 0.
  void rank(Experience& known, int32_t room, const DraftTree& tree);
  void keep(DraftTree& tree, int32_t nodes);  // the best of the ranked
  void learn_acceptance(Experience& known, const DraftTree& tree, std::span<const int32_t> path,
                        std::span<const int32_t> emitted);
  void learn_arms(Experience& known, double tokens, double spent);

  Limits limits_;
  LocalCalibration local_;
  Account account_;
  Question asked_;
  DraftSource in_use_ = DraftSource::kRoot;
  int32_t questions_ = 0;
  std::vector<float> values_;   // [nodes] of the tree at hand
  std::vector<double> ranked_;  // the same, best first, root not included
  std::vector<int32_t> place_;  // [nodes] in the pruned tree, -1: dropped
  std::vector<Unverified> unverified_;
  TreePruner pruner_;
};

// Prunes the proposed trees of all sequences of a step together: a node of one makes the step
// longer for all. The scratch is reused.
class TreeFitter {
 public:
  struct Entry {
    Controller* controller = nullptr;
    DraftTree* tree = nullptr;
    int32_t context = 0;
    int32_t room = 0;
    double draft_ms = 0.0;  // already spent
  };
  // max_nodes: of all trees together.
  void fit(Experience& known, const Load& plain, std::span<const Entry> entries, int32_t max_nodes);

 private:
  NodeChooser chooser_;
  std::vector<NodeChooser::Sequence> sequences_;
};

}  // namespace forerun
