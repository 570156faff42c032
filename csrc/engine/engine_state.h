#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/trace.h"
#include "base/turn_lock.h"
#include "draft/factory.h"
#include "draft/tree_policy.h"
#include "engine/devices.h"
#include "engine/options.h"
#include "engine/session.h"
#include "engine/stats.h"
#include "model/batch.h"
#include "model/model.h"
#include "model/prefix_store.h"
#include "sched/controller.h"
#include "sched/executor.h"
#include "sched/experience.h"
#include "text/tokenizer.h"
#include "verify/judge_file.h"
#include "verify/verifier.h"

namespace forerun {

// Rows of a prompt chunk, and most rows with logits in one forward (all sessions of a step
// together).
inline constexpr int32_t kPrefillRows = 256;
inline constexpr int32_t kLogitRows = 128;

// Everything the sessions of an engine share. Loaded models are immutable; what changes is guarded
// by `step_mutex`, which a step holds from draft to commit: back ends run one forward at a time.
struct EngineState {
  explicit EngineState(const EngineOptions& options)
      : EngineState(options, default_devices(options.threads)) {}
  EngineState(const EngineOptions& options, DeviceMaker make);

  EngineOptions options;
  std::shared_ptr<const Checkpoint> checkpoint;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<TraceRecorder> recorder;  // null unless the options ask for a profile
  Placement placement;
  Devices devices;
  std::shared_ptr<Backend> backend;  // of the target's head: where logits lie
  std::shared_ptr<const Model> target;
  KvLayout kv_layout;              // of the target's caches, all layers
  std::vector<KvPlace> kv_places;  // ... and where they lie
  int32_t context = 0;
  DraftPlan draft_plan;                      // which drafters a session gets
  DraftResources draft_shared;               // what they share
  std::shared_ptr<const LinearJudge> judge;  // of the verifier "judge"
  DrawNeed need;                             // of the verifier, at temperatures above 0
  std::vector<int32_t> taps;  // of every forward: those that the drafters want, then those recorded
  int32_t draft_taps = 0;     // ... how many of them
  std::unique_ptr<PrefixStore> prefixes;

  TurnLock step_mutex;
  std::unique_ptr<Workspace> workspace;
  std::unique_ptr<Workspace> feature_workspace;  // made by the first call of Engine::features
  Batch batch;
  std::vector<float> host_logits, host_hidden,
      host_taps;                    // of a back end whose memory the host cannot read
  std::vector<uint16_t> half_taps;  // the same on their way to another device
  std::vector<TokenDraw> draws;     // of a step whose tokens the back end chooses
  std::vector<int32_t> chosen;
  Experience known;  // costs and acceptance; sessions learn into it as they run
  TreeFitter fitter;
  std::vector<TreeFitter::Entry> to_fit;
  Stats stats;

  Forward forward();  // the target over `batch`, by its back end's thread if it has one

  // A part of a step in the profile, if there is one.
  TraceScope stage(const char* name) const {
    return TraceScope(recorder.get(), TraceTrack::kStage, name);
  }
  TraceScope step(const char* name, int32_t rows = 0) const {
    return TraceScope(recorder.get(), TraceTrack::kStep, name, rows);
  }

  std::unique_ptr<Verifier> new_verifier() const;
  std::unique_ptr<Drafter> new_drafter(const std::string& tenant) const;
  void replace_head(const std::string& path);  // for new_drafter from now on
  int64_t head_page_bytes() const;             // keys and values of a draft head
  // The logits of a forward where the host can read them; so the hidden states, if asked for.
  const float* readable(const Forward& forward);
  NodeLogits node_logits(const Forward& forward, bool hidden);
  // The taps of rows [first, first + rows); valid until the next call.
  HiddenRows hidden_rows(const Forward& forward, int32_t first, int32_t rows);
  HiddenRows for_drafter(const HiddenRows& taps) const;  // what the drafters want of them
  HiddenRows for_record(const HiddenRows& taps) const;
  bool records() const { return !options.record_taps.empty() || options.record_top_k > 0; }

 private:
  void find_head();                         // for "auto", in options.heads
  bool take_head(const std::string& head);  // false: it does not fit
  void load_draft();
  std::shared_ptr<const DraftHead> load_head(const std::string& path);
  Forward run_target();
  void separate();  // gives target and draft a thread each, where they have a device each
  void measure_costs();
  void measure_draft_model();
  void measure_draft_head();
  void measure_early_exit();
  void expect_planned_tree();
  double layers_ms(std::span<const int32_t> layers, int32_t logit_rows);

  mutable std::mutex drafts_mutex_;  // of draft_shared's head
  Executor executor_;
  std::shared_ptr<WorkQueue> target_queue_;  // null: the caller's thread
  Forward forwarded_;
  WorkQueue::Task forward_task_{[this] { forwarded_ = run_target(); }};
};

}  // namespace forerun
