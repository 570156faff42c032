#include "backend/cuda/staging.h"

#include <algorithm>
#include <cstring>

namespace forerun::cuda {

Staging::Staging() : memory_(kSlots * kSlotBytes) {
  for (int slot = 0; slot < kSlots; ++slot) done_.push_back(std::make_unique<Event>());
}

void Staging::upload(void* device, const void* host, int64_t bytes, cudaStream_t stream) {
  for (int64_t at = 0; at < bytes; at += kSlotBytes) {
    const auto size = static_cast<size_t>(std::min(kSlotBytes, bytes - at));
    const int slot = next_;
    next_ = (next_ + 1) % kSlots;
    done_[slot]->wait();
    std::byte* pinned = memory_.data() + slot * kSlotBytes;
    std::memcpy(pinned, static_cast<const std::byte*>(host) + at, size);
    check(cudaMemcpyAsync(static_cast<std::byte*>(device) + at, pinned, size,
                          cudaMemcpyHostToDevice, stream),
          "upload");
    done_[slot]->record(stream);
  }
}

}  // namespace forerun::cuda
