#include "draft/early_exit.h"

namespace forerun {
namespace {
constexpr int32_t kRootOnly[] = {DraftTree::kRoot};
}  // namespace

EarlyExitDrafter::EarlyExitDrafter(std::shared_ptr<const Model> target, ExitPlan plan,
                                   std::unique_ptr<TreePolicy> policy,
                                   std::shared_ptr<LevelCosts> costs)
    : ExitDrafter(DraftSource::kEarlyExit, std::move(target), std::move(plan), std::move(policy),
                  kMaxBeam, std::move(costs)) {}

std::unique_ptr<Drafter> EarlyExitDrafter::fork() const {
  return std::unique_ptr<Drafter>(new EarlyExitDrafter(*this));
}

void EarlyExitDrafter::observe(std::span<const int32_t> context, const Observation& truth) {
  (void)context;
  tell_policy(truth);
}

int32_t EarlyExitDrafter::room(std::span<const int32_t> context) const {
  const auto length = static_cast<int32_t>(context.size());
  if (cache_ == nullptr || cache_->length() != length - 1) return 0;
  return cache_->capacity() - length;
}

int32_t EarlyExitDrafter::unread(int32_t context) const {
  (void)context;
  return 0;
}

void EarlyExitDrafter::open_root(std::span<const int32_t> context) {
  (void)context;
  open_level(kRootOnly);
}

}  // namespace forerun
