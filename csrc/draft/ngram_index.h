#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace forerun {

// Where the n-grams of a context occurred before, for every n in [min_n, max_n]. Appending a token
// is O(max_n): one hash table per n holds the last end of every n-gram, and each position keeps the
// end before it, so that the latest earlier occurrence of a suffix needs no look-up. Rewinding
// undoes the last tokens exactly: with linear probing, entries leave in the reverse of the order in
// which they came, so that no other entry's probe path is cut. Exact: n-grams are compared token by
// token, never by hash alone.
class NgramIndex {
 public:
  NgramIndex(int32_t min_n, int32_t max_n);  // Error(kBadArgument) unless 1 <= min_n <= max_n <= 64

  void clear();
  void append(int32_t token);
  void truncate(int32_t length);  // no effect when it is not shorter

  int32_t length() const { return static_cast<int32_t>(tokens_.size()); }
  std::span<const int32_t> tokens() const { return tokens_; }
  int32_t min_n() const { return min_n_; }
  int32_t max_n() const { return max_n_; }

  // The latest position before `end` at which the n tokens that end at `end` ended too; -1 when
  // there is none.
  int32_t previous(int32_t n, int32_t end) const {
    return previous_[static_cast<size_t>(end) * tables_.size() + static_cast<size_t>(n - min_n_)];
  }

 private:
  static constexpr int32_t kEmpty = -1;

  void index(int32_t end);
  void grow();
  // The slot of the n-gram that ends at `end`, or the empty slot where it belongs.
  size_t slot(int32_t n, int32_t end, uint64_t hash) const;
  void hashes(int32_t end);
  bool same(int32_t n, int32_t a, int32_t b) const;

  int32_t min_n_, max_n_;
  size_t mask_ = 0;  // slots of a table - 1
  std::vector<int32_t> tokens_;
  std::vector<int32_t> previous_;             // [length, tables]
  std::vector<std::vector<int32_t>> tables_;  // [n - min_n][slots]: end of the last occurrence
  std::vector<uint64_t> hash_;                // [tables], of the n-grams at hand
};

}  // namespace forerun
