#include "sched/node_chooser.h"

#include <algorithm>

namespace forerun {

// The best prefix of the sorted candidates; sets rate_.
int32_t NodeChooser::scan(const CostModel& costs, const Frame& frame,
                          std::span<const Sequence> sequences) {
  Load load = frame.plain;
  double tokens = load.rows;
  const int32_t most = std::min(static_cast<int32_t>(candidates_.size()), frame.most);
  int32_t best = 0;
  rate_ = tokens / (costs.verify_ms(load) + frame.draft_ms);
  for (int32_t n = 1; n <= most; ++n) {
    const Candidate& next = candidates_[static_cast<size_t>(n - 1)];
    load.add_rows(1, sequences[static_cast<size_t>(next.sequence)].context);
    tokens += next.value;
    const double ms = costs.verify_ms(load) + frame.draft_ms;
    if (ms > frame.limit_ms) break;
    if (tokens / ms > rate_) {
      rate_ = tokens / ms;
      best = n;
    }
  }
  return best;
}

double NodeChooser::choose(const CostModel& costs, const Frame& frame,
                           std::span<const Sequence> sequences) {
  candidates_.clear();
  for (size_t s = 0; s < sequences.size(); ++s) {
    const Sequence& sequence = sequences[s];
    const size_t count =
        std::min(sequence.values.size(), static_cast<size_t>(std::max(sequence.most, 0)));
    for (size_t i = 0; i < count; ++i) {
      candidates_.push_back({sequence.values[i], sequence.values[i], static_cast<int32_t>(s)});
    }
  }
  constexpr int kRounds = 8;  // the rate grows every round; two or three are the rule
  int32_t nodes = 0;
  double rate = frame.plain.rows / (costs.verify_ms(frame.plain) + frame.draft_ms);
  for (int round = 0; round < kRounds; ++round) {
    for (Candidate& candidate : candidates_) {
      const int32_t context = sequences[static_cast<size_t>(candidate.sequence)].context;
      candidate.key = candidate.value - rate * costs.row_position_ms() * context;
    }
    std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
      return a.key != b.key ? a.key > b.key : a.sequence < b.sequence;
    });
    nodes = scan(costs, frame, sequences);
    if (rate_ <= rate || sequences.size() == 1) break;
    rate = rate_;
  }
  counts_.assign(sequences.size(), 0);
  for (int32_t i = 0; i < nodes; ++i) {
    ++counts_[static_cast<size_t>(candidates_[static_cast<size_t>(i)].sequence)];
  }
  return rate_;
}

}  // namespace forerun
