#pragma once

#include <vector>

#include "backend/cuda/launch.h"
#include "backend/cuda/staging.h"

namespace forerun::cuda {

// Puts an AttentionBatch on the device, in one copy. The layers of a forward pass the same batch:
// it is compared with the one that is there, byte by byte, and only a different one is sent. Grows
// outside steps of the same size.
class BatchUpload {
 public:
  DeviceBatch put(const AttentionBatch& batch, Staging& staging, cudaStream_t stream);
  int64_t uploads() const { return uploads_; }  // so far

 private:
  std::vector<std::byte> wanted_, present_;
  DeviceMemory memory_;
  int64_t uploads_ = 0;
};

}  // namespace forerun::cuda
