#pragma once

#include <memory>
#include <vector>

#include "backend/cuda/runtime.h"

namespace forerun::cuda {

// Page-locked slots through which host data goes to the device: the caller's memory is free again
// when upload returns, which waits only for a slot whose last copy is not done.
class Staging {
 public:
  static constexpr int64_t kSlotBytes = 256 * 1024;

  Staging();
  void upload(void* device, const void* host, int64_t bytes, cudaStream_t stream);

 private:
  static constexpr int kSlots = 8;
  PinnedMemory memory_;
  std::vector<std::unique_ptr<Event>> done_;
  int next_ = 0;
};

}  // namespace forerun::cuda
