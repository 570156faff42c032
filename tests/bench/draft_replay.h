#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/settings.h"
#include "draft_trace.h"

namespace forerun::bench {

// Totals of replayed answers.
struct ReplaySums {
  int64_t steps = 0, tokens = 0, nodes = 0;
  double cost = 0.0;      // of the verification, in plain steps
  double draft_us = 0.0;  // spent in the drafter
  double log_gain = 0.0;  // sum over answers of log(tokens / cost)
  int64_t answers = 0;
};

struct Replay {
  std::string draft;  // as of EngineOptions
  MethodOptions options;
  int32_t fixed = -1;         // nodes of every step; -1: the controller decides
  int32_t most = 63;          // of the controller
  std::vector<double> costs;  // T_v[2, 4, 8, 16, 32, 64] / T_v[1]
};

// Drafts along the recorded answers, one request after another, as an engine would; by category.
// After a rejected node the target's ranking is taken from where it was recorded nearest to there.
std::map<std::string, ReplaySums> replay(const Replay& replay, std::vector<DraftTrace>& traces);

}  // namespace forerun::bench
