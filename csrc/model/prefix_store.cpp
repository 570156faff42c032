#include "model/prefix_store.h"

#include <algorithm>

namespace forerun {
namespace {

size_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t most = std::min(a.size(), b.size());
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(most), b.begin()).first -
      a.begin());
}

size_t pages_for(size_t positions) {
  return (positions + KvLayout::kPageSlots - 1) / KvLayout::kPageSlots;
}

}  // namespace

int32_t PrefixStore::restore(std::span<const int32_t> tokens, KvCache& cache) {
  if (tokens.empty()) return 0;
  const std::lock_guard lock(mutex_);
  auto best = entries_.end();
  size_t length = 0;
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    const size_t common = common_prefix(entry->tokens, tokens.first(tokens.size() - 1));
    if (common > length) {
      best = entry;
      length = common;
    }
  }
  if (best == entries_.end()) return 0;
  cache.adopt(std::span(best->pages).first(pages_for(length)), static_cast<int32_t>(length));
  entries_.splice(entries_.begin(), entries_, best);
  return static_cast<int32_t>(length);
}

void PrefixStore::save(std::span<const int32_t> tokens, const KvCache& cache) {
  const size_t length = std::min(tokens.size(), static_cast<size_t>(cache.length()));
  const size_t pages = pages_for(length);
  if (length == 0 || static_cast<int64_t>(pages) > max_pages_) return;
  const auto kept = tokens.first(length);
  const std::lock_guard lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const size_t common = common_prefix(entry->tokens, kept);
    if (common == kept.size()) return;  // already covered
    if (common == entry->tokens.size()) {
      release(entry->pages);
      entry = entries_.erase(entry);
    } else {
      ++entry;
    }
  }
  const auto handles = cache.page_handles().first(pages);
  entries_.push_front({{kept.begin(), kept.end()}, {handles.begin(), handles.end()}});
  for (const KvPage& page : handles) ++uses_[page.get()];
  while (static_cast<int64_t>(uses_.size()) > max_pages_) {
    release(entries_.back().pages);
    entries_.pop_back();
  }
}

void PrefixStore::release(std::span<const KvPage> pages) {
  for (const KvPage& page : pages) {
    const auto use = uses_.find(page.get());
    if (--use->second == 0) uses_.erase(use);
  }
}

void PrefixStore::clear() {
  const std::lock_guard lock(mutex_);
  entries_.clear();
  uses_.clear();
}

}  // namespace forerun
