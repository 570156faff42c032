#pragma once

#include <cstdint>

namespace forerun {

// Zeroed pages from the system, 2 MiB aligned and asked to be huge ones when the block is at least
// that large: weights are read in full at every step, and small pages cost a sixth of the bandwidth
// in translation misses. Owns; move-only.
class PageBlock {
 public:
  PageBlock() = default;
  explicit PageBlock(int64_t bytes);  // Error(kOutOfMemory) with the size
  ~PageBlock();
  PageBlock(PageBlock&& other) noexcept;
  PageBlock& operator=(PageBlock&& other) noexcept;

  uint8_t* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  void* mapping_ = nullptr;
  int64_t mapped_ = 0;
  uint8_t* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace forerun
