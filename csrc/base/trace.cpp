#include "base/trace.h"

#include <algorithm>

namespace forerun {

TraceRecorder::TraceRecorder(size_t capacity) : ring_(std::max<size_t>(capacity, 1)) {}

int64_t TraceRecorder::now() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() -
                                                              origin_)
      .count();
}

void TraceRecorder::open(TraceSpan& span) {
  if (span.track == TraceTrack::kStep) step_ = steps_++;
  span.step = step_;
  span.start_ns = now();
}

void TraceRecorder::close(TraceSpan& span) {
  span.duration_ns = now() - span.start_ns;
  ring_[ended_++ % ring_.size()] = span;
  if (span.track == TraceTrack::kStep) step_ = -1;
}

std::vector<TraceSpan> TraceRecorder::take() {
  size_t first = ended_ - std::min(ended_, ring_.size());
  if (first > 0) {
    const int32_t cut = ring_[first % ring_.size()].step;
    while (first < ended_ && ring_[first % ring_.size()].step == cut) ++first;
  }
  std::vector<TraceSpan> spans;
  spans.reserve(ended_ - first);
  for (size_t i = first; i < ended_; ++i) spans.push_back(ring_[i % ring_.size()]);
  ended_ = 0;
  return spans;
}

}  // namespace forerun
