#pragma once

#include <charconv>
#include <cstdint>
#include <limits>
#include <string_view>

namespace forerun {

// The number from 0 to 2^31 - 2 that `text` is, so that one more is a number too; -1 for anything
// else.
inline int32_t parse_count(std::string_view text) {
  int32_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && value >= 0 && value < std::numeric_limits<int32_t>::max() ? value : -1;
}

}  // namespace forerun
