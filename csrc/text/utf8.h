#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace forerun {

// UTF-8 as Unicode chapter 3.9 defines it: no overlong forms, no surrogates, nothing above
// U+10FFFF. Input may be any bytes; what is not UTF-8 never stops a scan.

enum class Utf8State { kComplete, kUnfinished, kInvalid };

// The sequence that begins at `at` (< text.size()): a whole character; the beginning of one that
// the text cuts off; or a maximal invalid part, at least one byte long.
struct Utf8Part {
  Utf8State state = Utf8State::kInvalid;
  size_t length = 1;
};
Utf8Part scan_utf8(std::string_view text, size_t at);

// One step through arbitrary bytes: a character, or a single byte b that is in none, as
// kInvalidByte + b.
inline constexpr uint32_t kInvalidByte = 0x110000;
struct CodePoint {
  uint32_t value = 0;
  uint32_t length = 1;
};
CodePoint decode_utf8(std::string_view text, size_t at);

void append_utf8(std::string& text, uint32_t code_point);  // kInvalidByte + b appends the byte b
bool is_valid_utf8(std::string_view text);

}  // namespace forerun
