#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace forerun {

// Steps and the stages inside them lie on one track, operations of back ends on another; spans of a
// track nest.
enum class TraceTrack : uint8_t { kStep, kStage, kOperation };

// A piece of work with a beginning and an end.
struct TraceSpan {
  const char* name = "";  // static text: "step", "draft", "linear.qkv", ...
  TraceTrack track = TraceTrack::kOperation;
  int32_t step = -1;     // number of the kStep span around it, -1: none
  int32_t rows = 0;      // of activations
  int64_t start_ns = 0;  // since the recorder was made
  int64_t duration_ns = 0;
  int64_t bytes = 0;       // that the work has to read and write at least
  int64_t operations = 0;  // multiplications and additions
};

// Spans in a ring of fixed size: the newest stay, recording allocates nothing. One thread at a time
// (a step holds the engine's lock).
class TraceRecorder {
 public:
  explicit TraceRecorder(size_t capacity);

  // All spans in the order in which they ended, without the rest of a step whose beginning is lost.
  // Empties the ring.
  std::vector<TraceSpan> take();

 private:
  friend class TraceScope;
  int64_t now() const;
  void open(TraceSpan& span);
  void close(TraceSpan& span);

  std::chrono::steady_clock::time_point origin_ = std::chrono::steady_clock::now();
  std::vector<TraceSpan> ring_;
  size_t ended_ = 0;  // spans since the ring was emptied
  int32_t steps_ = 0;
  int32_t step_ = -1;  // the open kStep span
};

// Records the time from its construction to its destruction; does nothing without a recorder.
class TraceScope {
 public:
  TraceScope(TraceRecorder* recorder, TraceTrack track, const char* name, int32_t rows = 0)
      : recorder_(recorder) {
    if (recorder_ == nullptr) return;
    span.name = name;
    span.track = track;
    span.rows = rows;
    recorder_->open(span);
  }
  ~TraceScope() {
    if (recorder_ != nullptr) recorder_->close(span);
  }
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;

  TraceSpan span;  // what is known later may be set until the end

 private:
  TraceRecorder* recorder_;
};

}  // namespace forerun
