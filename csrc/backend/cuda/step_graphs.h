#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "backend/cuda/launch_log.h"
#include "backend/cuda/runtime.h"

namespace forerun::cuda {

// Sequences of launches that come again are replayed as CUDA graphs, each as one call of the driver
// instead of hundreds. What a sequence is shows when its launches are noted: other rows, another
// reach of attention or a buffer that has moved make another sequence. The first time it is run as
// it is, the second time captured. What changes from step to step lies in device buffers and is
// uploaded while the launches are noted.
class StepGraphs {
 public:
  // Calls `work` once to note it, and perhaps once more to do it.
  void run(const std::function<void()>& work, cudaStream_t stream);

  bool running() const { return running_; }
  // True in the second of these calls: uploads have been made.
  bool uploaded() const { return uploaded_; }
  // A buffer has moved, so that launches noted before may name the old one: they are noted again.
  void moved() { moved_ = true; }
  int64_t captures() const { return captures_; }
  int64_t replays() const { return replays_; }

 private:
  struct Destroy {
    void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
  };
  using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, Destroy>;
  struct Known {
    std::vector<std::byte> launches;
    Graph graph;  // null until the second time
    int64_t used = 0;
  };
  static constexpr size_t kMost = 64;  // known at once; the one used longest ago goes

  Known* find();
  Known& remember();
  void note(const std::function<void()>& work);
  void repeat(const std::function<void()>& work);
  Graph capture(const std::function<void()>& work, cudaStream_t stream);

  LaunchLog log_;
  std::vector<Known> known_;
  bool running_ = false, uploaded_ = false, moved_ = false;
  int64_t turn_ = 0, captures_ = 0, replays_ = 0;
};

}  // namespace forerun::cuda
