#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "draft/exit_drafter.h"

namespace forerun {

// The target drafts for itself with some of its layers, its final norm and its head: early exit
// (LayerSkip, arXiv 2404.16710, without its training), skipped layers (Draft & Verify, arXiv
// 2309.08168; SWIFT, arXiv 2410.06916), nested exits. It has no keys and values of its own: those
// of the text are the target's, and its nodes lie in the scratch slots of the sequence's cache,
// which verification writes anew in every layer.
class EarlyExitDrafter final : public ExitDrafter {
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
  EarlyExitDrafter(const EarlyExitDrafter& other) : ExitDrafter(other) {}
  int32_t room(std::span<const int32_t> context) const override;
  int32_t unread(int32_t context) const override;
  void open_root(std::span<const int32_t> context) override;
  void open_level(std::span<const int32_t> nodes) override { open_nodes(*cache_, nodes); }

  KvCache* cache_ = nullptr;  // of the sequence, lent by it
};

}  // namespace forerun
