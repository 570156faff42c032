#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"

namespace forerun {

// Keys and values lie where their layers do: a back end, and what of every page it holds.
struct KvPlace {
  Backend* backend = nullptr;
  KvLayout layout;  // layers: of this place
};

// One page of 64 slots for all layers, a buffer per place. Shared between forks and with the prefix
// store until somebody writes.
using KvPage = std::shared_ptr<const std::vector<Buffer>>;

// Keys and values of one sequence. Slots [0, length) are committed, slot = logical position; slots
// from length on are scratch: row i of a batch is written to slot length + i, whatever its depth.
// commit(path) moves the accepted rows down in place (path[j] >= j) and RoPE needs no rework, since
// a node's position is its position after commit.
class KvCache {
 public:
  // capacity: positions, scratch not counted
  KvCache(std::vector<KvPlace> places, int32_t capacity);
  KvCache(Backend& backend, KvLayout layout, int32_t capacity)
      : KvCache({{&backend, layout}}, capacity) {}

  int32_t length() const { return length_; }
  int32_t capacity() const { return capacity_; }
  std::span<const KvPlace> places() const { return places_; }
  const KvLayout& layout() const { return places_[0].layout; }  // of the only place

  // Makes slots [length, length + rows) writable: allocates pages, copies a shared one. Before a
  // forward.
  void prepare(int32_t rows);
  std::span<std::byte* const> pages(size_t place = 0) const { return pointers_[place]; }

  void commit(
      std::span<const int32_t> path);  // rows of the last forward, ascending: length += path.size()
  void commit_rows(int32_t rows);      // the first `rows` rows, already in place
  void rewind(int32_t length);  // forgets the slots after it; Error(kBadArgument) beyond length()
  KvCache fork() const;         // shares every page; the copies diverge when they write

  // Full pages below `length`, for reuse by another sequence with the same prefix.
  std::span<const KvPage> page_handles() const { return pages_; }
  void adopt(std::span<const KvPage> pages, int32_t length);  // on an empty cache

 private:
  KvPage fresh_page(const KvPage* contents) const;  // zeroed, or a copy

  std::vector<KvPlace> places_;
  int32_t capacity_;
  int32_t length_ = 0;
  std::vector<KvPage> pages_;
  std::vector<std::vector<std::byte*>> pointers_;  // [places][pages]
  std::vector<int32_t> from_, to_;                 // scratch of commit()
};

}  // namespace forerun
