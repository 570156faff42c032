#include "backend/cuda/step_graphs.h"

#include <algorithm>

namespace forerun::cuda {
namespace {

// Sets a value until the end of a scope.
template <typename T>
class Scoped {
 public:
  Scoped(T& place, T value) : place_(place), before_(place) { place = value; }
  ~Scoped() { place_ = before_; }
  Scoped(const Scoped&) = delete;
  Scoped& operator=(const Scoped&) = delete;

 private:
  T& place_;
  T before_;
};

}  // namespace

LaunchLog*& launch_log() {
  static thread_local LaunchLog* log = nullptr;
  return log;
}

void StepGraphs::note(const std::function<void()>& work) {
  const Scoped<LaunchLog*> noting(launch_log(), &log_);
  do {
    moved_ = false;
    log_.clear();
    work();
  } while (moved_);
}

void StepGraphs::repeat(const std::function<void()>& work) {
  const Scoped<bool> repeating(uploaded_, true);
  work();
}

StepGraphs::Known* StepGraphs::find() {
  const auto found = std::find_if(known_.begin(), known_.end(), [this](const Known& known) {
    return known.launches == log_.bytes();
  });
  return found == known_.end() ? nullptr : &*found;
}

StepGraphs::Known& StepGraphs::remember() {
  if (known_.size() == kMost) {
    known_.erase(std::min_element(known_.begin(), known_.end(),
                                  [](const Known& a, const Known& b) { return a.used < b.used; }));
  }
  known_.push_back({log_.bytes(), nullptr, turn_});
  return known_.back();
}

StepGraphs::Graph StepGraphs::capture(const std::function<void()>& work, cudaStream_t stream) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin a capture");
  cudaGraph_t captured = nullptr;
  try {
    repeat(work);
  } catch (...) {
    cudaStreamEndCapture(stream, &captured);
    if (captured != nullptr) cudaGraphDestroy(captured);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(stream, &captured), "end a capture");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&executable, captured, 0);
  cudaGraphDestroy(captured);
  check(made, "instantiate a graph");
  ++captures_;
  return Graph(executable);
}

void StepGraphs::run(const std::function<void()>& work, cudaStream_t stream) {
  const Scoped<bool> running(running_, true);
  note(work);
  Known* known = find();
  ++turn_;
  if (known == nullptr) {
    remember();
    return repeat(work);
  }
  known->used = turn_;
  if (known->graph == nullptr) known->graph = capture(work, stream);
  check(cudaGraphLaunch(known->graph.get(), stream), "launch a graph");
  ++replays_;
}

}  // namespace forerun::cuda
