#pragma once

#include <cstdint>
#include <memory>

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

// A part of a block, which lives as long as its last piece.
struct PagePiece {
  std::shared_ptr<PageBlock> block;
  uint8_t* data = nullptr;
  int64_t bytes = 0;
};

// Zeroed pieces, 64-byte aligned, one behind the other in blocks of huge pages: the matrices of a
// small model and the pages of a KvCache are each smaller than a huge page. A piece of that size
// has a block of its own.
class PageArena {
 public:
  PagePiece take(int64_t bytes);  // Error(kOutOfMemory) with the size

 private:
  std::shared_ptr<PageBlock> block_;
  int64_t used_ = 0;
};

}  // namespace forerun
