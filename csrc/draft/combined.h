#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "draft/drafter.h"
#include "tree/prune.h"

namespace forerun {

// Several drafters as one, asked in order; their trees are fused (shared prefixes once, a node that
// two propose belongs to the first) and the best nodes by score fill the budget.
//
// Tree fusion as in RASD (arXiv 2503.03434): where a model says what comes next, a branch of
// others that it does not hold counts with at most the probability that the model leaves over.
//
// A cascade: a drafter that takes time is asked only where that pays. How many more tokens were
// accepted with it than without is averaged, by how much the ones before it promised; it is asked
// while that average is worth its milliseconds (Budget::tokens_per_ms), and now and then besides,
// so that the average does not go stale; and only where the controller lets it (Budget::asked).
class CombinedDrafter final : public Drafter {
 public:
  static constexpr int32_t kAskAgain = 16;  // proposals after which it is asked in any case

  explicit CombinedDrafter(std::vector<std::unique_ptr<Drafter>> drafters);

  std::string name() const override;  // joined by "+"
  void begin(std::span<const int32_t> context) override;
  void propose(std::span<const int32_t> context, const Budget& budget, const DraftNoise& noise,
               DraftTree& tree) override;
  void start_ahead(const DraftTree& verified) override;
  void end_ahead() noexcept override;
  void observe(std::span<const int32_t> context, const Observation& truth) override;
  void rewind(std::span<const int32_t> context) override;
  std::unique_ptr<Drafter> fork() const override;
  void finish(std::span<const int32_t> context, std::span<const uint8_t> emitted) override;
  void borrow(KvCache& cache) override;
  int32_t wanted_topk() const override;
  std::span<const int32_t> wanted_taps() const override;
  void read(std::span<const int32_t> context, int32_t first, const HiddenRows& hidden) override;
  std::span<const std::unique_ptr<Drafter>> parts() const override { return drafters_; }
  double expected_ms(int32_t nodes) const override;

 private:
  static constexpr size_t kPromises = 6;
  struct Asking {                            // of a drafter that takes time
    std::array<double, kPromises> gain{};    // accepted tokens more, by promise
    std::array<int32_t, kPromises> tries{};  // of which it is the average
    int32_t skipped = 0;                     // proposals in a row
    double share = 1.0;                      // of the proposals for which it is asked
    bool asked = false;                      // in this step, and it took time
    size_t promise = 0;                      // of the drafters before it
    DraftTree without;                       // what they proposed
  };
  bool pays(size_t drafter, const DraftTree& tree, const Budget& budget);
  void limit_by(const DraftTree& model, DraftTree& tree);
  void learn(Asking& asking, const Observation& truth) const;

  std::vector<std::unique_ptr<Drafter>> drafters_;  // at most one wants taps
  std::vector<Asking> cascade_;                     // [drafters]
  DraftTree part_, limited_;
  std::vector<int32_t> in_model_;
  std::vector<float> left_over_;
  TreePruner pruner_;
};

}  // namespace forerun
