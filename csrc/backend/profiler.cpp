#include "backend/profiler.h"

#include <utility>

#include "backend/decorated.h"

namespace forerun {
namespace {

class ProfilingBackend final : public DecoratedBackend {
 public:
  ProfilingBackend(std::unique_ptr<Backend> inner, std::shared_ptr<TraceRecorder> recorder)
      : DecoratedBackend(std::move(inner)), recorder_(std::move(recorder)) {}

  TraceRecorder* recorder() const override { return recorder_.get(); }

 private:
  void around(const Work& work, Call call) override {
    TraceScope scope(recorder_.get(), TraceTrack::kOperation, work.name, work.rows);
    scope.span.bytes = work.bytes;
    scope.span.operations = work.operations;
    call();
    inner().synchronize();
  }

  std::shared_ptr<TraceRecorder> recorder_;
};

}  // namespace

std::unique_ptr<Backend> make_profiling_backend(std::unique_ptr<Backend> inner,
                                                std::shared_ptr<TraceRecorder> recorder) {
  return std::make_unique<ProfilingBackend>(std::move(inner), std::move(recorder));
}

}  // namespace forerun
