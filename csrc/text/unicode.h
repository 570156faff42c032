#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace forerun {

// The classes that the regular expressions of pre-tokenizers distinguish. Every code point has
// exactly one; a byte outside any character (kInvalidByte + b) is kOther. Bits, so that a set of
// classes is a mask.
enum CharClass : uint8_t {
  kLetter = 1,  // \p{L}
  kNumber = 2,  // \p{N}
  kSpace = 4,   // \s: the Unicode property White_Space
  kOther = 8,
};

CharClass char_class(uint32_t code_point);

// Unicode normalisation form C (UAX 15). Bytes that are not UTF-8 stay as they are and compose with
// nothing.
std::string to_nfc(std::string_view text);

}  // namespace forerun
