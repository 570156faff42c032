#pragma once

#include <array>
#include <span>
#include <cstdint>

#include "sched/cost_model.h"
#include "tree/draft_tree.h"

namespace forerun {

// Decides how many nodes pay for themselves, 0 included (verification.md section 10): with calibrated node values
// v_1 >= v_2 >= ..., keep the n that maximises (1 + sum v_i) / (T_v[n + 1] + T_draft). A drafter's scores are
// calibrated per source and score bin by what was accepted, counting a node only when its parent was accepted.
// Goes down to plain decoding when speculation does not pay and probes again after a growing number of steps.
class Controller {
 public:
  struct Limits {
    int32_t max_nodes = 48;    // never more
    int32_t fixed_nodes = -1;  // >= 0: always this many, no control (tests, benches)
  };
  struct Allowance {  // sched's own view of a budget; engine/ hands it to draft/
    int32_t max_nodes = 0;
    float min_value = 0.0F;
  };

  explicit Controller(Limits limits) : limits_(limits) {}

  Allowance allowance(const CostModel& costs, int32_t room, double draft_ms);  // room: positions left in the context
  void fit(const CostModel& costs, double draft_ms, DraftTree& tree);          // prunes to the best n
  void observe(const DraftTree& tree, std::span<const int32_t> path, double draft_ms, double verify_ms);

  double acceptance(DraftSource source, float score) const;  // calibrated

 private:
  static constexpr int kBins = 16;
  struct Bin { double accepted = 0.0, tried = 0.0; };
  Limits limits_;
  std::array<std::array<Bin, kBins>, kDraftSources> bins_{};
  int32_t plain_steps_ = 0;   // until the next probe
  int32_t probe_interval_ = 4;
};

}  // namespace forerun
