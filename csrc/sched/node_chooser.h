#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sched/cost_model.h"

namespace forerun {

// Goodput (SmartSpec, arXiv 2406.14066) for the trees of one or several sequences in one forward:
// of all candidate nodes those are kept that maximise
//     (tokens of a plain step + sum of kept values) / (T_v[all rows] + T_draft).
// A sequence's values descend, so any count of them is closed under parents. A node of a long
// context costs more than one of a short: for a rate r, the best nodes are those of largest value -
// r * (cost of attending); r is found by Dinkelbach's iteration, each round one sort and one scan.
// The result is the exact maximum, since the rest of T_v depends on the number of rows alone.
class NodeChooser {
 public:
  struct Sequence {
    std::span<const double> values;  // calibrated, descending
    int32_t context = 0;
    int32_t most = 0;  // nodes that this sequence may get
  };
  struct Frame {
    Load plain;             // one row of every sequence; as many tokens are emitted without nodes
    double draft_ms = 0.0;  // spent already
    double limit_ms = 0.0;  // longest step, drafting included
    int32_t most = 0;       // nodes of all sequences together
  };

  // Returns tokens per ms; counts() then holds the nodes of each sequence.
  double choose(const CostModel& costs, const Frame& frame, std::span<const Sequence> sequences);
  std::span<const int32_t> counts() const { return counts_; }

 private:
  struct Candidate {
    double value, key;
    int32_t sequence;
  };
  int32_t scan(const CostModel& costs, const Frame& frame, std::span<const Sequence> sequences);

  std::vector<Candidate> candidates_;
  std::vector<int32_t> counts_;
  double rate_ = 0.0;
};

}  // namespace forerun
