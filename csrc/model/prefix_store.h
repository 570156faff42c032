#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "model/kv_cache.h"

namespace forerun {

// Keys and values of finished requests, for prompts that begin the same way. The cached rows have
// the bits that a fresh prefill would compute (exactness contract), so reuse never changes the
// text. Thread-safe. Entries share their pages with the caches they came from and with each other;
// the least recently used go first when together they hold more than `max_pages`.
class PrefixStore {
 public:
  explicit PrefixStore(int64_t max_pages) : max_pages_(max_pages) {}

  // Adopts the longest stored prefix of `tokens`, at most tokens.size() - 1 (the last row must be
  // computed for its logits), into an empty cache. Returns the number of positions reused.
  // O(entries * tokens).
  int32_t restore(std::span<const int32_t> tokens, KvCache& cache);

  // Remembers the committed part of a cache whose rows belong to `tokens`.
  void save(std::span<const int32_t> tokens, const KvCache& cache);

  void clear();

 private:
  struct Entry {
    std::vector<int32_t> tokens;
    std::vector<KvPage> pages;
  };
  void release(std::span<const KvPage> pages);
  std::mutex mutex_;
  std::list<Entry> entries_;  // most recently used first
  int64_t max_pages_;
  std::unordered_map<const void*, int32_t> uses_;  // entries that hold a page, by page
};

}  // namespace forerun
