#pragma once

#include <memory>
#include <vector>

#include "backend/cuda/runtime.h"

namespace forerun::cuda {

// Page-locked slots through which small host data goes to the device without waiting: the caller's
// memory is free again when upload returns. A slot is used again only after its last copy is done.
class Staging {
 public:
  static constexpr int64_t kSlotBytes = 256 * 1024;

  Staging();
  // Larger than a slot: copied straight from the caller's memory, which waits.
  void upload(void* device, const void* host, int64_t bytes, cudaStream_t stream);

 private:
  static constexpr int kSlots = 8;
  PinnedMemory memory_;
  std::vector<std::unique_ptr<Event>> done_;
  int next_ = 0;
};

}  // namespace forerun::cuda
