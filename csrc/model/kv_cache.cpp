#include "model/kv_cache.h"

#include <cstring>
#include <string>

#include "base/error.h"

namespace forerun {
namespace {
constexpr int32_t kSlots = KvLayout::kPageSlots;
}

KvCache::KvCache(Backend& backend, KvLayout layout, int32_t capacity)
    : backend_(&backend), layout_(layout), capacity_(capacity) {
  from_.reserve(kSlots);  // longer paths are rare
  to_.reserve(kSlots);
}

void KvCache::prepare(int32_t rows) {
  const size_t pages = static_cast<size_t>((length_ + rows + kSlots - 1) / kSlots);
  for (size_t i = static_cast<size_t>(length_ / kSlots); i < pages; ++i) {
    if (i < pages_.size() && pages_[i].use_count() == 1) continue;
    auto fresh = std::make_shared<Buffer>(backend_->allocate(layout_.page_bytes()));
    if (i < pages_.size()) {
      backend_->copy(fresh->data(), pages_[i]->data(), layout_.page_bytes());
      pages_[i] = std::move(fresh);
    } else {
      pages_.push_back(std::move(fresh));
      pointers_.push_back(nullptr);
    }
    pointers_[i] = static_cast<std::byte*>(pages_[i]->data());
  }
}

void KvCache::commit(std::span<const int32_t> path) {
  from_.clear();
  to_.clear();
  for (size_t j = 0; j < path.size(); ++j) {
    if (path[j] == static_cast<int32_t>(j)) continue;
    from_.push_back(length_ + path[j]);
    to_.push_back(length_ + static_cast<int32_t>(j));
  }
  if (!from_.empty()) backend_->move_kv(layout_, pointers_, from_, to_);
  length_ += static_cast<int32_t>(path.size());
}

void KvCache::commit_rows(int32_t rows) { length_ += rows; }

void KvCache::rewind(int32_t length) {
  if (length < 0 || length > length_) {
    throw Error(ErrorKind::kBadArgument, "rewind to " + std::to_string(length) + " of a cache of " +
                                             std::to_string(length_) + " positions");
  }
  length_ = length;
}

KvCache KvCache::fork() const { return *this; }

void KvCache::adopt(std::span<const KvPage> pages, int32_t length) {
  pages_.assign(pages.begin(), pages.end());
  pointers_.clear();
  for (const KvPage& page : pages_) pointers_.push_back(static_cast<std::byte*>(page->data()));
  length_ = length;
}

}  // namespace forerun
