#include "backend/cpu/memory.h"

#include <sys/mman.h>

#include <string>
#include <utility>

#include "base/error.h"

namespace forerun {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kArenaBlock = int64_t{32} << 20;  // of which what is used takes memory

}  // namespace

PageBlock::PageBlock(int64_t bytes) {
  if (bytes <= 0) return;
  const bool huge = bytes >= kHugePage;
  const auto refuse = [&] {
    throw Error(ErrorKind::kOutOfMemory,
                "cpu: the system refused " + std::to_string(bytes) + " bytes of memory");
  };
  if (bytes > INT64_MAX - 2 * kHugePage) refuse();
  mapped_ = huge ? (bytes + 2 * kHugePage - 1) / kHugePage * kHugePage : bytes;
  mapping_ = mmap(nullptr, static_cast<size_t>(mapped_), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    refuse();
  }
  data_ = static_cast<uint8_t*>(mapping_);
  if (huge) {
    const auto address = reinterpret_cast<uintptr_t>(mapping_);
    data_ += (kHugePage - address % kHugePage) % kHugePage;
    madvise(data_, static_cast<size_t>(bytes),
            MADV_HUGEPAGE);  // a hint: its failure costs speed only
  }
  bytes_ = bytes;
}

PageBlock::~PageBlock() {
  if (mapping_ != nullptr) munmap(mapping_, static_cast<size_t>(mapped_));
}

PageBlock::PageBlock(PageBlock&& other) noexcept
    : mapping_(std::exchange(other.mapping_, nullptr)),
      mapped_(std::exchange(other.mapped_, 0)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

PageBlock& PageBlock::operator=(PageBlock&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

PagePiece PageArena::take(int64_t bytes) {
  if (bytes >= kHugePage) {
    auto block = std::make_shared<PageBlock>(bytes);
    return {block, block->data(), bytes};
  }
  if (block_ == nullptr || used_ + bytes > block_->bytes()) {
    block_ = std::make_shared<PageBlock>(kArenaBlock);
    used_ = 0;
  }
  PagePiece piece = {block_, block_->data() + used_, bytes};
  used_ += (bytes + 63) / 64 * 64;
  return piece;
}

}  // namespace forerun
