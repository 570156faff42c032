#include "draft/ngram_index.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace forerun {
namespace {

constexpr size_t kFirstSlots = 1024;

uint64_t mixed(uint64_t hash) {  // finaliser of splitmix64
  hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9U;
  hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EBU;
  return hash ^ (hash >> 31);
}

}  // namespace

NgramIndex::NgramIndex(int32_t min_n, int32_t max_n) : min_n_(min_n), max_n_(max_n) {
  if (min_n < 1 || max_n < min_n || max_n > 64) {
    throw Error(ErrorKind::kBadArgument, "n-gram index: n from " + std::to_string(min_n) + " to " +
                                             std::to_string(max_n) +
                                             ", expected 1 <= min <= max <= 64");
  }
  tables_.resize(static_cast<size_t>(max_n - min_n + 1));
  hash_.resize(tables_.size());
  clear();
}

void NgramIndex::clear() {
  tokens_.clear();
  previous_.clear();
  mask_ = std::max(mask_, kFirstSlots - 1);
  for (std::vector<int32_t>& table : tables_) table.assign(mask_ + 1, kEmpty);
}

void NgramIndex::append(int32_t token) {
  if ((tokens_.size() + 1) * 2 > mask_ + 1) grow();
  tokens_.push_back(token);
  previous_.resize(tokens_.size() * tables_.size(), kEmpty);
  index(length() - 1);
}

// Positions are indexed in ascending order again, so entries keep the order in which they came.
void NgramIndex::grow() {
  mask_ = (mask_ + 1) * 2 - 1;
  for (std::vector<int32_t>& table : tables_) table.assign(mask_ + 1, kEmpty);
  for (int32_t end = 0; end < length(); ++end) index(end);
}

void NgramIndex::index(int32_t end) {
  hashes(end);
  for (size_t i = 0; i < tables_.size(); ++i) {
    const int32_t n = min_n_ + static_cast<int32_t>(i);
    int32_t& before = previous_[static_cast<size_t>(end) * tables_.size() + i];
    before = kEmpty;
    if (end + 1 < n) continue;
    int32_t& last = tables_[i][slot(n, end, hash_[i])];
    before = last;
    last = end;
  }
}

void NgramIndex::truncate(int32_t length) {
  while (this->length() > std::max(length, 0)) {
    const int32_t end = this->length() - 1;
    hashes(end);
    for (size_t i = 0; i < tables_.size(); ++i) {
      const int32_t n = min_n_ + static_cast<int32_t>(i);
      if (end + 1 >= n) tables_[i][slot(n, end, hash_[i])] = previous(n, end);
    }
    tokens_.pop_back();
    previous_.resize(tokens_.size() * tables_.size());
  }
}

void NgramIndex::hashes(int32_t end) {
  uint64_t hash = 0;
  for (int32_t n = 1; n <= std::min(max_n_, end + 1); ++n) {
    hash = mixed(hash + static_cast<uint32_t>(tokens_[end + 1 - n]) + 0x9E3779B97F4A7C15U);
    if (n >= min_n_) hash_[static_cast<size_t>(n - min_n_)] = hash;
  }
}

size_t NgramIndex::slot(int32_t n, int32_t end, uint64_t hash) const {
  const std::vector<int32_t>& table = tables_[static_cast<size_t>(n - min_n_)];
  size_t at = static_cast<size_t>(hash) & mask_;
  while (table[at] != kEmpty && !same(n, table[at], end)) at = (at + 1) & mask_;
  return at;
}

bool NgramIndex::same(int32_t n, int32_t a, int32_t b) const {
  return std::equal(tokens_.begin() + (a + 1 - n), tokens_.begin() + (a + 1),
                    tokens_.begin() + (b + 1 - n));
}

}  // namespace forerun
