#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "draft/drafter.h"
#include "tree/prune.h"

namespace forerun {

// Several drafters as one: their trees are fused in order (a node that two propose belongs to the
// first) and the best nodes by score fill the budget. A drafter that takes time is not asked when
// the ones before it already promise kEnough accepted tokens.
class CombinedDrafter final : public Drafter {
 public:
  static constexpr double kEnough = 4.0;

  explicit CombinedDrafter(std::vector<std::unique_ptr<Drafter>> drafters);

  std::string name() const override;  // joined by "+"
  void begin(std::span<const int32_t> context) override;
  void propose(std::span<const int32_t> context, const Budget& budget, const DraftNoise& noise,
               DraftTree& tree) override;
  void observe(std::span<const int32_t> context, const Observation& truth) override;
  void rewind(std::span<const int32_t> context) override;
  std::unique_ptr<Drafter> fork() const override;
  void finish(std::span<const int32_t> context, std::span<const uint8_t> emitted) override;
  int32_t wanted_topk() const override;
  std::span<const std::unique_ptr<Drafter>> parts() const override { return drafters_; }
  double expected_ms(int32_t nodes) const override;

 private:
  std::vector<std::unique_ptr<Drafter>> drafters_;
  DraftTree part_;
  TreePruner pruner_;
};

}  // namespace forerun
