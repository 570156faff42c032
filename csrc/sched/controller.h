#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "sched/cost_model.h"
#include "tree/draft_tree.h"
#include "tree/prune.h"

namespace forerun {

// Decides how many nodes pay for themselves, 0 included (verification.md section 10): with
// calibrated node values v_1 >= v_2 >= ..., keep the n that maximises (1 + sum v_i) / (T_v[n + 1] +
// T_draft). Raising the slope of T_v never raises that n. A drafter's scores are calibrated per
// source and score bin by what was accepted, counting a node only when its parent was accepted.
//
// Two rules keep speculation from costing time:
// - Probes. Where nothing pays, a few nodes are tried after 4, 8, .. kMaxProbeInterval plain steps.
// - An account of the time won against plain decoding, by the cost table: each step adds (tokens *
// T_v[1] - time) and
//   kAllowedLoss of T_v[1]; below 0 only plain steps are made. No step stakes more than the account
//   and kMaxDebt, and the account holds at most kMaxCredit steps, so that past success cannot pay
//   for a long failure.
// Copyable: a request starts from what earlier ones learnt. Costs not measured: plain decoding.
class Controller {
 public:
  static constexpr int32_t kMaxProbeInterval = 64;
  static constexpr double kAllowedLoss = 0.01;  // share of plain time
  static constexpr double kFirstCredit = 3.0;   // in plain steps, as are the next two
  static constexpr double kMaxCredit = 8.0;
  static constexpr double kMaxDebt = 1.0;
  static constexpr int32_t kProbeNodes = 3;

  struct Limits {
    int32_t max_nodes = 48;    // never more
    int32_t fixed_nodes = -1;  // >= 0: always this many, no control (tests, benches)
  };
  struct Allowance {  // sched's own view of a budget; engine/ hands it to draft/
    int32_t max_nodes = 0;
    int32_t max_depth = 0;
    float min_value =
        0.0F;  // product of raw scores below which a node cannot pay, with a wide margin
    double tokens_per_ms = 0.0;  // what a millisecond must bring to be well spent; 0: do not care
  };
  using DraftMs = std::function<double(int32_t nodes)>;  // a drafter's own estimate

  Controller() : Controller(Limits{}) {}
  explicit Controller(Limits limits);

  void reserve();  // scratch, which copies do not inherit, so that steps do not allocate

  Allowance allowance(const CostModel& costs, int32_t room,
                      const DraftMs& draft_ms);  // room: longest useful path
  void fit(const CostModel& costs, double draft_ms,
           DraftTree& tree);  // prunes to the best n, not draws
  // After every step, plain ones too: the tree that was verified and its accepted path.
  void observe(const CostModel& costs, const DraftTree& tree, std::span<const int32_t> path,
               double draft_ms);

  double acceptance(DraftSource source, float score) const;  // calibrated

 private:
  static constexpr int kBins = 16;
  struct Bin {
    double accepted = 0.0, tried = 0.0;
  };
  static int bin_of(float score);
  Bin& bin(DraftSource source, float score);
  void learn_profile(int32_t drafted);
  void calibrated_values(const DraftTree& tree);
  int32_t affordable(const CostModel& costs, const DraftMs& draft_ms, int32_t most) const;
  struct Choice {
    int32_t nodes = 0;         // 0 when plain decoding is at least as good
    int32_t at_least_one = 0;  // the best number above 0
    double rate = 0.0;         // tokens per ms with `nodes`
  };
  Choice best_size(const CostModel& costs, std::span<const double> values,
                   const DraftMs& draft_ms) const;
  bool may_speculate() const { return account_ >= 0.0; }

  Limits limits_;
  std::array<std::array<Bin, kBins>, kDraftSources> bins_{};
  std::vector<double>
      profile_;  // [max_nodes] average calibrated value of the i-th best node of a proposal
  std::vector<float> values_;   // [nodes] of the tree at hand
  std::vector<double> ranked_;  // the same, best first, root not included
  TreePruner pruner_;
  int32_t asked_ = 0;        // allowances given
  int32_t known_nodes_ = 0;  // most nodes ever asked for
  int32_t asked_nodes_ = 0;  // of the last allowance
  int32_t until_probe_ = 0;  // plain steps left
  int32_t probe_interval_ = kFirstInterval;
  double account_ = kFirstCredit;  // in plain steps
  static constexpr int32_t kFirstInterval = 4;
};

}  // namespace forerun
