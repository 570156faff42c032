#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "draft/continuations.h"
#include "draft/state_file.h"

namespace forerun {

// Which tokens follow the last two, or where those are unknown the last one, and with which share
// (ADED, AAAI 2025). Learns from texts, one successor at a time, and from the target's rankings,
// kRanks at a time, rejected guesses included. Shares are running averages, so that late
// observations count as much as an early corpus. A fixed number of slots, four to a set; in a full
// set the one that was not asked for or told of for longest makes room. Keys are 64-bit hashes: two
// contexts that share one spoil a guess, nothing else. Not thread-safe; the engine's step lock
// guards it.
class TrigramTable {
 public:
  static constexpr int32_t kRanks = 8;
  // What an order says about a later visit of the same two tokens, by rank.
  static constexpr float kRankShares[kRanks] = {0.6F,  0.13F,  0.07F, 0.045F,
                                                0.03F, 0.025F, 0.02F, 0.015F};
  static constexpr uint64_t kLeastBytes = uint64_t{64} << 10;

  struct Successor {
    int32_t token;
    float share;
  };

  explicit TrigramTable(uint64_t max_bytes);  // Error(kBadArgument) below kLeastBytes

  // Contexts of different salts know nothing of each other.
  // After `before`, `last` came the tokens of `best`, most likely first; before < 0: unknown.
  // Negative tokens are skipped. shares: of a later visit, falling.
  void rank(uint64_t salt, int32_t before, int32_t last, std::span<const int32_t> best,
            std::span<const float> shares = kRankShares);
  void read(uint64_t salt, std::span<const int32_t> text);  // a text, whoever wrote it
  // Texts for contexts of every salt that know nothing better.
  void read_corpus(const TokenText& texts, uint64_t size);
  // The successors that are known, best first; what the last two tokens say counts most.
  void successors(uint64_t salt, int32_t before, int32_t last, std::vector<Successor>& out);

  // Slots, least recently used first, so that a smaller table keeps the latest ones.
  void save(StateWriter& out) const;
  // Error(kBadFile) for what no table of a model with this vocabulary could have saved.
  void load(ByteCursor in, int32_t vocab);

  uint64_t bytes() const { return slots_.capacity() * sizeof(Slot); }

 private:
  static constexpr size_t kWays = 4;
  struct Slot {  // one cache line
    uint64_t key = 0;
    uint32_t used = 0;  // when it was last of use
    uint32_t seen = 0;  // observations
    std::array<int32_t, kRanks> token{};
    std::array<uint16_t, kRanks> share{};  // in 1/65535; falling; 0: no token
  };
  Slot* find(uint64_t key);
  Slot* find(uint64_t salt, int32_t before, int32_t last);  // or in the corpus
  Slot& make(uint64_t key);
  void observe(uint64_t key, std::span<const int32_t> best, std::span<const float> shares);

  std::vector<Slot> slots_;
  size_t sets_ = 0;
  uint32_t clock_ = 0;
};

}  // namespace forerun
