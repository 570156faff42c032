#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "draft/exit_plan.h"
#include "draft/level_drafter.h"
#include "model/batch.h"
#include "model/kv_cache.h"

namespace forerun {

// A drafter that asks a transformer, which a node may leave before its last layer: at nested exits
// of rising depth, for nodes of low confidence (S2D, arXiv 2407.01955). The final norm and the head
// are those of all exits. A node that goes on to a deeper exit takes its ancestors with it, so that
// those above a node have reached at least its exit.
class ExitDrafter : public LevelDrafter {
 protected:
  // rows: most of one forward, at least kMaxBeam
  ExitDrafter(DraftSource label, std::shared_ptr<const Model> model, ExitPlan plan,
              std::unique_ptr<TreePolicy> policy, int32_t rows, std::shared_ptr<LevelCosts> costs);
  ExitDrafter(const ExitDrafter& other);

  // These nodes of grown(), its last, are new: keeps the law of each at the exit where it stops.
  // Their rows lie in the scratch slots of `cache`, which holds the text before the root.
  void open_nodes(KvCache& cache, std::span<const int32_t> nodes);
  // Whether a node that was opened has its rows in all layers of the plan, as text has them.
  bool is_whole(int32_t node) const {
    if (!plan_->exact() && node != DraftTree::kRoot) return false;
    return reached_[static_cast<size_t>(node)] == plan_->exits.size();
  }
  // The root was run to the last exit by other means.
  void root_is_whole() { reached_.assign(1, plan_->exits.size()); }

  const Model& model() const { return *model_; }
  const ExitPlan& plan() const { return *plan_; }
  Workspace& workspace();  // made by the first proposal

 private:
  void run(KvCache& cache, std::span<const int32_t> nodes, size_t logit_rows, size_t exit);
  void deepen(KvCache& cache, size_t exit);

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const ExitPlan> plan_;
  int32_t rows_;
  std::unique_ptr<Workspace> workspace_;
  Batch batch_;
  // Only for several exits: the residual streams where the nodes of grown() stopped.
  Buffer streams_, start_;       // [kMaxNodes, width], [kMaxBeam, width]
  std::vector<size_t> reached_;  // [nodes of grown()]: exits that a node has run to
  std::vector<int32_t> unsure_, behind_;
};

}  // namespace forerun
