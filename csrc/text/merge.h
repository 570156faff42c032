#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace forerun {

// The pairs of symbols that merge, with their order. Lower rank first; of equal ranks the leftmost
// pair first.
class MergeTable {
 public:
  struct Rule {
    int32_t rank = 0;
    int32_t merged = -1;
  };

  void reserve(size_t count) { rules_.reserve(count); }
  void add(int32_t left, int32_t right, Rule rule) {
    rules_.emplace(key(left, right), rule);
  }  // the first one stays
  const Rule* find(int32_t left, int32_t right) const {
    const auto it = rules_.find(key(left, right));
    return it == rules_.end() ? nullptr : &it->second;
  }

 private:
  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  struct Hash {
    size_t operator()(uint64_t key) const { return (key ^ key >> 29) * 0x9E3779B97F4A7C15U >> 7; }
  };
  std::unordered_map<uint64_t, Rule, Hash> rules_;
};

// Byte-pair merging of one piece: a linked list of symbols and a heap of the pairs that may merge,
// n log n in the length of the piece. A pair in the heap is out of date once one of its symbols has
// merged otherwise; it is then skipped. Reused from piece to piece, so that its memory is allocated
// once per text.
class Merger {
 public:
  struct Symbol {
    int32_t id = -1;     // -1: no token and no part of one, merges with nothing
    uint32_t begin = 0;  // where its text begins
    int32_t previous = -1;
    int32_t next = -1;
  };

  void clear() { symbols_.clear(); }
  void append(int32_t id, uint32_t begin);
  void merge(const MergeTable& table);

  // Calls visit(symbol) for what is left, in the order of the text.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (int32_t i = symbols_.empty() ? -1 : 0; i != -1; i = symbols_[i].next) visit(symbols_[i]);
  }

 private:
  struct Candidate {
    int32_t rank, left, left_id, right_id;
  };
  static bool later(const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  }
  void consider(const MergeTable& table, int32_t left);

  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace forerun
