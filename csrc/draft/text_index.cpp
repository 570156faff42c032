#include "draft/text_index.h"

#include <algorithm>
#include <bit>

namespace forerun {
namespace {

uint64_t mixed(uint64_t hash) {  // finaliser of splitmix64
  hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9U;
  hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EBU;
  return hash ^ (hash >> 31);
}

}  // namespace

uint64_t TextIndex::bytes() const {
  uint64_t words = tokens_.capacity() + owners_.capacity();
  for (size_t i = 0; i < kLengths.size(); ++i) {
    words += before_[i].capacity() + latest_[i].capacity();
  }
  return words * sizeof(uint32_t);
}

void TextIndex::clear() { next_ = size_ = 0; }

int32_t TextIndex::token(uint64_t position) const {
  return kept(position) ? tokens_[slot(position)] : kEnd;
}

template <typename Back>
std::array<int64_t, TextIndex::kLengths.size()> TextIndex::buckets(Back&& back,
                                                                   uint32_t owner) const {
  std::array<int64_t, kLengths.size()> out;
  out.fill(-1);
  uint64_t hash = mixed(owner + 0x9E3779B97F4A7C15U);
  int32_t taken = 0;
  for (size_t i = 0; i < kLengths.size(); ++i) {
    for (; taken < kLengths[i]; ++taken) {
      const int32_t token = back(taken);
      if (token == kEnd) return out;
      hash = mixed(hash + static_cast<uint32_t>(token) + 0x9E3779B97F4A7C15U);
    }
    out[i] = static_cast<int64_t>(hash & bucket_mask_);
  }
  return out;
}

// Adds a position to its chains, or takes the latest one out again.
void TextIndex::link(uint64_t position, bool add) {
  const auto bucket = buckets([&](int32_t i) { return token(position - static_cast<uint64_t>(i)); },
                              owner(position));
  for (size_t i = 0; i < kLengths.size() && bucket[i] >= 0; ++i) {
    uint32_t& latest = latest_[i][static_cast<size_t>(bucket[i])];
    uint32_t& before = before_[i][slot(position)];
    if (add) before = latest;
    latest = add ? static_cast<uint32_t>(position) : before;
  }
}

void TextIndex::append(int32_t token, uint32_t owner) {
  if (size_ == tokens_.size()) grow();
  tokens_[slot(next_)] = token;
  owners_[slot(next_)] = owner;
  size_ = std::min(size_ + 1, static_cast<uint64_t>(tokens_.size()));
  link(next_++, true);
}

// Only before anything was overwritten, so that positions are slots.
void TextIndex::grow() {
  const uint64_t limit = max_tokens_ > 0 ? max_tokens_ : UINT64_MAX;
  const uint64_t capacity =
      std::min(std::max(kFirstTokens, static_cast<uint64_t>(tokens_.size()) * 2), limit);
  if (capacity <= tokens_.size()) return;
  bucket_mask_ = static_cast<uint32_t>(std::bit_floor(capacity) - 1);
  for (size_t i = 0; i < kLengths.size(); ++i) {
    before_[i] = {};
    before_[i].resize(capacity);
    latest_[i] = {};
    latest_[i].resize(uint64_t{bucket_mask_} + 1);
  }
  tokens_.resize(capacity);
  owners_.resize(capacity);
  const uint64_t length = next_;
  for (next_ = size_ = 0; next_ < length;) {
    ++size_;
    link(next_++, true);
  }
}

void TextIndex::truncate(uint64_t length) {
  while (next_ > length && size_ > 0) {
    link(next_ - 1, false);
    --next_;
    --size_;
  }
}

int32_t TextIndex::agreement(std::span<const int32_t> context, uint64_t end, uint32_t owner) const {
  if (!kept(end) || this->owner(end) != owner) return 0;
  const int32_t most = std::min(kLongest, static_cast<int32_t>(context.size()));
  int32_t agree = 0;
  while (agree < most && token(end - static_cast<uint64_t>(agree)) ==
                             context[context.size() - 1 - static_cast<size_t>(agree)]) {
    ++agree;
  }
  return agree;
}

void TextIndex::find(std::span<const int32_t> context, uint64_t before, uint32_t owner,
                     int32_t most, std::vector<Occurrence>& found) const {
  if (size_ == 0) return;
  const auto bucket = buckets(
      [&](int32_t i) {
        const size_t back = static_cast<size_t>(i);
        return back < context.size() ? context[context.size() - 1 - back] : kEnd;
      },
      owner);
  int32_t found_at_least = kLongest + 1;  // matches of the length before are known already
  for (size_t i = kLengths.size(); i-- > 0;) {
    if (bucket[i] < 0) continue;
    uint64_t end = full(latest_[i][static_cast<size_t>(bucket[i])]);
    uint64_t above = next_;
    for (int32_t visited = 0; visited < kMostVisited && end < above && kept(end); ++visited) {
      if (static_cast<int32_t>(found.size()) >= most) return;
      if (end < before) {
        const int32_t agree = agreement(context, end, owner);
        if (agree >= kLengths[i] && agree < found_at_least) found.push_back({end, agree});
      }
      above = end;
      end = full(before_[i][slot(end)]);
    }
    found_at_least = kLengths[i];
  }
}

}  // namespace forerun
