#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "draft/level_drafter.h"
#include "model/batch.h"
#include "model/kv_cache.h"

namespace forerun {

// Which part of the target drafts for it.
struct ExitPlan {
  std::vector<int32_t> layers;  // ascending; the others are skipped
  std::vector<int32_t> exits;   // how many of `layers` are run to an exit, ascending; the last: all
  double confidence = 0.6;      // a node whose likeliest token is below it goes on to the next exit

  // skip: "" (none) or "8-13,16"; exits: "" (after the last layer that is kept) or "6,9,12", layers
  // of the target. `layers`: the target's. Error(kBadArgument) saying what is wrong.
  static ExitPlan parse(const std::string& skip, const std::string& exits, double confidence,
                        int32_t layers);
};

// The target drafts for itself with some of its layers, its final norm and its head: early exit
// (LayerSkip, arXiv 2404.16710, without its training), skipped layers (Draft & Verify, arXiv
// 2309.08168; SWIFT, arXiv 2410.06916), nested exits of rising depth for nodes of low confidence
// (S2D, arXiv 2407.01955). It has no keys and values of its own: those of the text are the
// target's, and its nodes lie in the scratch slots of the sequence's cache, which verification
// writes anew in every layer. A node that goes on to a deeper exit takes its ancestors with it.
class EarlyExitDrafter final : public LevelDrafter {
 public:
  EarlyExitDrafter(std::shared_ptr<const Model> target, ExitPlan plan,
                   std::unique_ptr<TreePolicy> policy, std::shared_ptr<LevelCosts> costs = nullptr);

  std::string name() const override { return "early-exit"; }
  void borrow(KvCache& cache) override { cache_ = &cache; }
  void begin(std::span<const int32_t> context) override { (void)context; }
  void observe(std::span<const int32_t> context, const Observation& truth) override;
  void rewind(std::span<const int32_t> context) override { (void)context; }
  std::unique_ptr<Drafter> fork() const override;

 private:
  EarlyExitDrafter(const EarlyExitDrafter& other);
  int32_t room(std::span<const int32_t> context) const override;
  int32_t unread(int32_t context) const override;
  void open_root(std::span<const int32_t> context) override;
  void open_level(std::span<const int32_t> nodes) override;

  void run(std::span<const int32_t> nodes, size_t logit_rows, size_t exit);
  void deepen(size_t exit);

  std::shared_ptr<const Model> target_;
  std::shared_ptr<const ExitPlan> plan_;
  KvCache* cache_ = nullptr;  // of the sequence, lent by it
  std::unique_ptr<Workspace> workspace_;
  Batch batch_;
  // Only for several exits: the residual streams where the nodes of grown() stopped.
  Buffer streams_, start_;       // [kMaxNodes, width], [kMaxBeam, width]
  std::vector<size_t> reached_;  // [nodes of grown()]: exits that a node has run to
  std::vector<int32_t> unsure_, behind_;
};

}  // namespace forerun
