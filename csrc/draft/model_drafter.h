#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "draft/draft_law.h"
#include "draft/drafter.h"
#include "draft/slot_grower.h"
#include "draft/tree_policy.h"
#include "model/batch.h"
#include "model/kv_cache.h"
#include "model/model.h"

namespace forerun {

// A small model drafts for the large one; same vocabulary (the engine checks). It has its own KV
// cache on its model's back end, catches up with tokens it has not seen, and forwards a tree level
// by level, all nodes of a level in one batch. Rows of guesses that came true are kept. At
// temperature 0 children are the most likely tokens and the score is their probability q. Above,
// children are the best of log q / T + G with the target's own noise G of the same (seed, position,
// token), so that the two agree more often (verification.md 2.4); the score is the softmax of the
// leading sums. Where the verifier needs draws, children are drawn from q with noise of their own,
// as the policy says. Only the kCandidates most likely tokens of a row are considered.
class ModelDrafter final : public Drafter, private ChildSource {
 public:
  static constexpr int32_t kCandidates = 64;
  static constexpr int32_t kMaxBeam = 16;  // nodes forwarded per level
  static constexpr int32_t kMaxLevels = 16;

  // Milliseconds, measured before; 0: not known yet.
  struct Costs {
    double level = 0.0;       // a level of the tree
    double prompt_row = 0.0;  // a token of the prompt
  };

  // context: positions of a sequence. Beyond the draft model's capacity nothing is proposed.
  ModelDrafter(std::shared_ptr<const Model> model, std::unique_ptr<TreePolicy> policy,
               int32_t context, Costs costs = {0.0, 0.0});

  std::string name() const override { return "model"; }
  DraftSource source() const override { return DraftSource::kModel; }
  void begin(std::span<const int32_t> context) override;
  void propose(std::span<const int32_t> context, const Budget& budget, const DraftNoise& noise,
               DraftTree& tree) override;
  void observe(std::span<const int32_t> context, const Observation& truth) override;
  void rewind(std::span<const int32_t> context) override;
  std::unique_ptr<Drafter> fork() const override;
  double expected_ms(int32_t nodes) const override;
  double start_ms(int32_t context) const override;
  bool draws(const DrawNeed& need) const override;

  int32_t cached() const { return cache_.length(); }  // tokens whose rows are committed

 private:
  ModelDrafter(const ModelDrafter& other);
  void open(std::span<const Guess> pool, std::span<const int32_t> frontier) override;
  void children(std::span<const Guess> pool, int32_t node, int32_t width,
                std::vector<Guess>& children) override;
  void law(std::span<const Guess> pool, int32_t node, TokenLaw& q) override;
  bool pays(double reach, const Budget& budget) const override;
  int32_t most_nodes() const override { return kMaxBeam; }

  void keep_common_prefix(std::span<const int32_t> context);
  void keep_true_guesses(std::span<const int32_t> context);
  void forward_context(
      std::span<const int32_t> context);  // rows missing before the root, and the root itself
  void forward_level(std::span<const Guess> pool, std::span<const int32_t> frontier);
  void read_candidates(const Forward& out, int32_t first, int32_t rows);

  std::shared_ptr<const Model> model_;
  std::unique_ptr<TreePolicy> policy_;
  std::unique_ptr<Workspace> workspace_;  // made by the first proposal
  KvCache cache_;
  Batch batch_;
  TreeGrower grower_;
  SlotGrower slot_grower_;
  DraftLaw law_;

  std::vector<int32_t> tokens_;  // whose rows are committed
  DraftTree grown_;              // nodes whose rows lie in the scratch slots
  bool rows_in_scratch_ = false;
  std::vector<int32_t> grown_of_;  // pool index -> node of grown_, -1
  std::vector<int32_t> path_;

  std::span<const int32_t> context_;  // of the proposal at hand
  DraftNoise noise_;
  int32_t candidates_;         // per row: at most the vocabulary
  std::vector<int32_t> ids_;   // [nodes of grown_, candidates], most likely first
  std::vector<float> logits_;  // the same
  std::vector<float> sums_;    // [candidates] of the node at hand
  std::vector<int32_t> order_;

  Costs costs_;
  double levels_per_node_ = 1.0;
};

}  // namespace forerun
