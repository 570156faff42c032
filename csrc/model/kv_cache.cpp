#include "model/kv_cache.h"

#include <cstring>
#include <string>

#include "base/error.h"

namespace forerun {
namespace {
constexpr int32_t kSlots = KvLayout::kPageSlots;
}

KvCache::KvCache(std::vector<KvPlace> places, int32_t capacity)
    : places_(std::move(places)), capacity_(capacity), pointers_(places_.size()) {
  from_.reserve(kSlots);  // longer paths are rare
  to_.reserve(kSlots);
}

KvPage KvCache::fresh_page(const KvPage* contents) const {
  auto page = std::make_shared<std::vector<Buffer>>();
  page->reserve(places_.size());
  for (const auto& [backend, layout] : places_) {
    page->push_back(backend->allocate(layout.page_bytes()));
    if (contents == nullptr) continue;
    const Buffer& old = (**contents)[page->size() - 1];
    backend->copy(page->back().data(), old.data(), layout.page_bytes());
  }
  return page;
}

void KvCache::prepare(int32_t rows) {
  const size_t pages = static_cast<size_t>((length_ + rows + kSlots - 1) / kSlots);
  for (size_t i = static_cast<size_t>(length_ / kSlots); i < pages; ++i) {
    const bool present = i < pages_.size();
    if (present && pages_[i].use_count() == 1) continue;
    KvPage page = fresh_page(present ? &pages_[i] : nullptr);
    if (!present) {
      pages_.emplace_back();
      for (auto& pointers : pointers_) pointers.push_back(nullptr);
    }
    pages_[i] = std::move(page);
    for (size_t place = 0; place < places_.size(); ++place) {
      pointers_[place][i] = static_cast<std::byte*>((*pages_[i])[place].data());
    }
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
  for (size_t place = 0; place < places_.size() && !from_.empty(); ++place) {
    const auto& [backend, layout] = places_[place];
    backend->move_kv(layout, pointers_[place], from_, to_);
  }
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
  for (size_t place = 0; place < places_.size(); ++place) {
    pointers_[place].clear();
    for (const KvPage& page : pages_) {
      pointers_[place].push_back(static_cast<std::byte*>((*page)[place].data()));
    }
  }
  length_ = length;
}

}  // namespace forerun
