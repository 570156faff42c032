#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "draft/draft_law.h"
#include "draft/drafter.h"
#include "draft/level_costs.h"
#include "draft/slot_grower.h"
#include "draft/tree_policy.h"
#include "model/model.h"

namespace forerun {

// A drafter that asks a network what follows: its tree grows level by level, all nodes of a level
// in one batch. What the network is, and how it knows the context, is the subclass's.
//
// At temperature 0 children are the most likely tokens and the score is their probability q. Above,
// children are the best of log q / T + G with the target's own noise G of the same (seed, position,
// token), so that the two agree more often (docs/exactness.md); the score is the softmax of the
// leading sums. Where the verifier needs draws, children are drawn from q with noise of their own,
// as the policy says. Only the kCandidates most likely tokens of a row are considered.
class LevelDrafter : public Drafter, private ChildSource {
 public:
  static constexpr int32_t kCandidates = 64;
  static constexpr int32_t kMaxBeam = 16;  // nodes forwarded per level
  static constexpr int32_t kMaxLevels = LevelCosts::kMaxLevels;
  static constexpr int32_t kMaxNodes = 1 + kMaxBeam * kMaxLevels;  // of grown()

  void propose(std::span<const int32_t> context, const Budget& budget, const DraftNoise& noise,
               DraftTree& tree) final;
  DraftSource source() const final { return label_; }
  double expected_ms(int32_t nodes) const override { return costs_->tree_ms(nodes); }
  double start_ms(int32_t context) const override { return costs_->reading_ms(unread(context)); }
  bool draws(const DrawNeed& need) const override;

 protected:
  // costs: of all drafters that work alike; nullptr: its own.
  LevelDrafter(DraftSource label, std::unique_ptr<TreePolicy> policy,
               std::shared_ptr<LevelCosts> costs);
  LevelDrafter(const LevelDrafter& other);  // scratch is not copied

  // Levels that fit below the root of this context; 0: nothing can be proposed.
  virtual int32_t room(std::span<const int32_t> context) const = 0;
  // Tokens to read before the first guess about a context of so many.
  virtual int32_t unread(int32_t context) const = 0;
  // Brings the network to the context and calls keep_laws() for the root, node 0 of grown().
  virtual void open_root(std::span<const int32_t> context) = 0;
  // These nodes of grown(), its last, are new; calls keep_laws() for each whose law is not kept.
  virtual void open_level(std::span<const int32_t> nodes) = 0;

  // Keeps laws by number. logits: [laws, columns] on `backend`. tokens: of the columns, ascending;
  // empty where column i is token i.
  void keep_laws(Backend& backend, const Tensor& logits, std::span<const int32_t> laws,
                 std::span<const int32_t> tokens = {});
  // The law of what follows this node of grown().
  virtual int32_t law_of(int32_t node) const { return node; }
  // How likely the target accepts this node of grown() given those above it; asked where a stop
  // rule reads it.
  virtual double acceptance_of(int32_t node) const {
    (void)node;
    return 1.0;
  }
  // The probability of the likeliest token after a node whose law is kept.
  double confidence(int32_t node) const;

  const DraftTree& grown() const { return grown_; }  // nodes that were opened, in that order
  const TreePolicy& policy() const { return *policy_; }
  void tell_policy(const Observation& truth);  // of every step

 private:
  void open(std::span<const Guess> pool, std::span<const int32_t> frontier) override;
  void children(std::span<const Guess> pool, int32_t node, int32_t width,
                std::vector<Guess>& children) override;
  void law(std::span<const Guess> pool, int32_t node, TokenLaw& q) override;
  double acceptance(std::span<const Guess>, int32_t node) const override {
    return acceptance_of(grown_of_[node]);
  }
  bool pays(double reach, const Budget& budget) const override;
  int32_t most_nodes() const override { return kMaxBeam; }
  void grow(const Budget& budget, DraftTree& tree);
  void order_candidates(int32_t row, int64_t position);
  std::span<const int32_t> ids(int32_t row) const;
  std::span<const float> logits(int32_t row) const;

  DraftSource label_;
  std::unique_ptr<TreePolicy> policy_;
  TreeGrower grower_;
  SlotGrower slot_grower_;
  DraftLaw law_;

  DraftTree grown_;
  std::vector<int32_t> grown_of_;  // pool index -> node of grown_, -1
  std::vector<int32_t> level_;     // nodes of grown_ that are opened together

  std::span<const int32_t> context_;  // of the proposal at hand
  DraftNoise noise_;
  size_t candidates_ = 0;      // per row: at most the vocabulary
  std::vector<int32_t> ids_;   // [laws, candidates], most likely first
  std::vector<float> logits_;  // the same
  std::vector<int32_t> top_ids_;
  std::vector<float> top_logits_;  // of the level at hand
  std::vector<float> sums_;        // [candidates] of the node at hand
  std::vector<int32_t> order_;

  std::shared_ptr<LevelCosts> costs_;
};

}  // namespace forerun
