#include "backend/cuda/staging.h"

#include <cstring>

namespace forerun::cuda {

Staging::Staging() : memory_(kSlots * kSlotBytes) {
  for (int slot = 0; slot < kSlots; ++slot) done_.push_back(std::make_unique<Event>());
}

void Staging::upload(void* device, const void* host, int64_t bytes, cudaStream_t stream) {
  if (bytes == 0) return;
  const auto size = static_cast<size_t>(bytes);
  if (bytes > kSlotBytes) {
    check(cudaMemcpyAsync(device, host, size, cudaMemcpyHostToDevice, stream), "upload");
    // The runtime may still read page-locked memory of the caller.
    check(cudaStreamSynchronize(stream), "upload");
    return;
  }
  const int slot = next_;
  next_ = (next_ + 1) % kSlots;
  done_[slot]->wait();
  std::byte* pinned = memory_.data() + slot * kSlotBytes;
  std::memcpy(pinned, host, size);
  check(cudaMemcpyAsync(device, pinned, size, cudaMemcpyHostToDevice, stream), "upload");
  done_[slot]->record(stream);
}

}  // namespace forerun::cuda
