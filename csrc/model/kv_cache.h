#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"

namespace forerun {

// One page of 64 slots for all layers. Shared between forks and with the prefix store until
// somebody writes.
using KvPage = std::shared_ptr<Buffer>;

// Keys and values of one sequence. Slots [0, length) are committed, slot = logical position; slots
// from length on are scratch: row i of a batch is written to slot length + i, whatever its depth.
// commit(path) moves the accepted rows down in place (path[j] >= j) and RoPE needs no rework, since
// a node's position is its position after commit.
class KvCache {
 public:
  KvCache(Backend& backend, KvLayout layout,
          int32_t capacity);  // capacity in positions, scratch not counted

  int32_t length() const { return length_; }
  int32_t capacity() const { return capacity_; }
  const KvLayout& layout() const { return layout_; }

  // Makes slots [length, length + rows) writable: allocates pages, copies a shared one. Before a
  // forward.
  void prepare(int32_t rows);
  std::span<std::byte* const> pages() const { return pointers_; }

  void commit(
      std::span<const int32_t> path);  // rows of the last forward, ascending: length += path.size()
  void commit_rows(int32_t rows);      // the first `rows` rows, already in place
  void rewind(int32_t length);  // forgets the slots after it; Error(kBadArgument) beyond length()
  KvCache fork() const;         // shares every page; the copies diverge when they write

  // Full pages below `length`, for reuse by another sequence with the same prefix.
  std::span<const KvPage> page_handles() const { return pages_; }
  void adopt(std::span<const KvPage> pages, int32_t length);  // on an empty cache

 private:
  Backend* backend_;
  KvLayout layout_;
  int32_t capacity_;
  int32_t length_ = 0;
  std::vector<KvPage> pages_;
  std::vector<std::byte*> pointers_;
  std::vector<int32_t> from_, to_;  // scratch of commit()
};

}  // namespace forerun
