#pragma once

#include <array>
#include <cstdint>

#include "sched/calibration.h"
#include "sched/cost_model.h"
#include "sched/draft_arm.h"

namespace forerun {

// What an engine has learned and its sequences share; under the engine's step lock. A request
// learns into it as it runs, so nothing has to be handed over when it ends.
struct Experience {
  static constexpr int32_t kPlainEvery = 32;  // the plain step is what all is measured against

  CostModel costs;
  Calibration acceptance;
  std::array<DraftArm, kDraftSources> arms;  // by source; [kRoot]: asking none that takes time
  int32_t since_plain = kPlainEvery;  // forwards since the last without drafts; the first is one
  int32_t since_unasked = 0;          // ... since the last in which no such drafter was asked
  double asking_ms = 0.0;             // time that table look-ups take, though they declare none
  double answer_tokens = 0.0;         // usual length of an answer; 0: none has ended yet

  DraftArm& arm(DraftSource source) { return arms[static_cast<size_t>(source)]; }

  // A forward's time, before the sequences in it observe what came of it.
  void observe_forward(const Load& load, double ms, bool plain) {
    costs.observe(load, ms, plain);
    since_plain = plain ? 0 : since_plain + 1;
  }
  void observe_answer(double tokens) {
    answer_tokens += (answer_tokens > 0.0 ? 0.2 : 1.0) * (tokens - answer_tokens);
  }
};

}  // namespace forerun
