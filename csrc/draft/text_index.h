#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "draft/continuations.h"

namespace forerun {

// Texts of tokens, and where a run of tokens was seen in them. Appending a token costs O(kLongest):
// for each length in kLengths the run that ends there is hashed into a bucket, which knows the
// latest end with that hash, and each position keeps the end before it (the hash chains of LZ77
// match finders). Every hit is compared token by token, so a hash never lies. Where a suffix tree
// stores counts, an occurrence list lets them be counted; in return the memory is flat, the oldest
// text leaves by being overwritten, and the last tokens can be taken back exactly as long as
// nothing has been overwritten.
//
// Texts belong to an owner and are found only for that owner; TokenText::kEnd lies between them.
class TextIndex final : public TokenText {
 public:
  static constexpr std::array<int32_t, 4> kLengths = {2, 4, 8, 16};
  static constexpr int32_t kLongest = 64;  // matches are not measured beyond

  struct Occurrence {
    uint64_t end = 0;     // position of the last matching token
    int32_t matched = 0;  // tokens that agree, backwards from there, at most kLongest
  };

  // max_tokens: how many are kept; 0 for no limit. The memory grows as needed.
  explicit TextIndex(uint64_t max_tokens = 0) : max_tokens_(max_tokens) {}

  // Bytes that a full index of this many tokens takes.
  static uint64_t bytes_for(uint64_t tokens) { return tokens * kTokenBytes; }
  static constexpr uint64_t kTokenBytes =
      2 * sizeof(int32_t) + 2 * kLengths.size() * sizeof(uint32_t);
  uint64_t bytes() const;

  void clear();
  void append(int32_t token, uint32_t owner = 0);
  void truncate(uint64_t length);  // of an index that has never overwritten anything

  uint64_t begin() const { return next_ - size_; }  // position of the oldest token kept
  uint64_t length() const { return next_; }         // tokens ever appended
  int32_t token(uint64_t position) const override;
  uint32_t owner(uint64_t position) const { return owners_[slot(position)]; }

  // The occurrences of the longest suffixes of `context` that end before position `before`: those
  // of the longest run in kLengths first, of a run the latest first, at most `most`.
  void find(std::span<const int32_t> context, uint64_t before, uint32_t owner, int32_t most,
            std::vector<Occurrence>& found) const;

 private:
  static constexpr uint64_t kFirstTokens = 256;
  static constexpr int32_t kMostVisited = 256;  // links followed per length

  size_t slot(uint64_t position) const { return static_cast<size_t>(position % tokens_.size()); }
  uint64_t full(uint32_t position) const {  // the latest position below next_ with these low bits
    return next_ - 1 - static_cast<uint32_t>(static_cast<uint32_t>(next_ - 1) - position);
  }
  bool kept(uint64_t position) const { return position < next_ && position >= begin(); }
  // Bucket of each length for the run that ends where `back` begins: back(0), back(1), ..; -1
  // where the text is shorter.
  template <typename Back>
  std::array<int64_t, kLengths.size()> buckets(Back&& back, uint32_t owner) const;
  void link(uint64_t position, bool add);
  void grow();
  int32_t agreement(std::span<const int32_t> context, uint64_t end, uint32_t owner) const;

  uint64_t max_tokens_;
  uint64_t next_ = 0, size_ = 0;
  uint32_t bucket_mask_ = 0;
  std::vector<int32_t> tokens_;   // [capacity], a ring
  std::vector<uint32_t> owners_;  // [capacity]
  // [kLengths][capacity] and [kLengths][buckets]: low 32 bits of a position
  std::array<std::vector<uint32_t>, kLengths.size()> before_, latest_;
};

}  // namespace forerun
