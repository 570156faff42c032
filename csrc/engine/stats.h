#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace forerun {

// Counts of one request, session or engine; the only place where tau and acceptance rates are
// defined.
struct Stats {
  int64_t steps = 0;                       // target forwards after the prefill
  int64_t tokens = 0;                      // emitted
  int64_t drafted = 0;                     // nodes verified, roots not counted
  int64_t accepted = 0;                    // drafted nodes on accepted paths
  std::vector<int64_t> tried_by_depth;     // steps whose tree reached depth i + 1
  std::vector<int64_t> accepted_by_depth;  // of those, steps whose accepted path did
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;  // prompt tokens whose keys and values came from an earlier request
  double prefill_seconds = 0.0;
  double decode_seconds = 0.0;
  double draft_seconds = 0.0;   // part of decode_seconds
  double verify_seconds = 0.0;  // part of decode_seconds: target forwards
  bool lossy = false;           // a mode that may change the text was chosen
  std::string draft_failure;    // why the draft was given up, if it was

  // Tokens emitted per target forward; 1 for plain decoding, 0 before the first step.
  double tau() const {
    return steps > 0 ? 1.0 + static_cast<double>(accepted) / static_cast<double>(steps) : 0.0;
  }
  double acceptance_rate() const {
    return drafted > 0 ? static_cast<double>(accepted) / static_cast<double>(drafted) : 0.0;
  }
  std::vector<double> acceptance_by_depth() const {
    std::vector<double> rates(tried_by_depth.size());
    for (size_t i = 0; i < rates.size(); ++i) {
      rates[i] = static_cast<double>(accepted_by_depth[i]) / static_cast<double>(tried_by_depth[i]);
    }
    return rates;
  }

  void add(const Stats& other) {
    steps += other.steps;
    tokens += other.tokens;
    drafted += other.drafted;
    accepted += other.accepted;
    grow(other.tried_by_depth.size());
    for (size_t i = 0; i < other.tried_by_depth.size(); ++i) {
      tried_by_depth[i] += other.tried_by_depth[i];
      accepted_by_depth[i] += other.accepted_by_depth[i];
    }
    prompt_tokens += other.prompt_tokens;
    reused_tokens += other.reused_tokens;
    prefill_seconds += other.prefill_seconds;
    decode_seconds += other.decode_seconds;
    draft_seconds += other.draft_seconds;
    verify_seconds += other.verify_seconds;
    lossy = lossy || other.lossy;
    if (draft_failure.empty()) draft_failure = other.draft_failure;
  }
  void grow(size_t depth) {
    if (tried_by_depth.size() < depth) {
      tried_by_depth.resize(depth);
      accepted_by_depth.resize(depth);
    }
  }
};

}  // namespace forerun
