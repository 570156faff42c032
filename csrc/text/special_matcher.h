#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace forerun {

// Finds special tokens in text: leftmost first, of those the longest; what parse_special leaves out
// hides no other. A trie; a text of n bytes costs at most n times the length of the longest special
// token, which kMaxSpecialBytes bounds.
class SpecialMatcher {
 public:
  static constexpr size_t kMaxSpecialBytes = 512;
  static constexpr size_t kMaxBytesOfAll = size_t{4} << 20;  // each costs some 50 in memory

  // `always`: found even where control tokens are to stay text (user-defined tokens).
  void add(std::string_view text, int32_t token, bool always);

  struct Match {
    size_t begin = 0, end = 0;
    int32_t token = -1;  // -1: nothing found
  };
  Match find(std::string_view text, size_t from, bool parse_special) const;

 private:
  struct Node {
    int32_t token = -1;
    bool always = false;
  };
  static uint64_t edge(size_t node, char byte) { return node << 8 | static_cast<uint8_t>(byte); }

  std::vector<Node> nodes_{Node{}};
  std::unordered_map<uint64_t, size_t> edges_;
  std::array<bool, 256> begins_{};
};

}  // namespace forerun
