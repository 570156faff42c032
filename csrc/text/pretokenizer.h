#pragma once

#include <cstddef>
#include <string_view>

namespace forerun {

// Splits text into the pieces inside which byte-level BPE merges. Each rule is a regular expression
// (of the model's tokenizer.json) that matches at every position, so the pieces tile the text;
// hand-written scanners give exactly its matches in one pass. \p{L}, \p{N}, \s are the classes of
// text/unicode.h; a byte outside UTF-8 is none of the three.
enum class PreTokenizer {
  // '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  kGpt2,
  // (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
  // ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
  kLlamaBpe,
  // Every \p{N} is a piece of its own; kGpt2 on what lies between, whose end counts as the end of
  // the text.
  kSmollm,
  // kLlamaBpe with \p{N} in place of \p{N}{1,3}
  kQwen2,
};

// End of the piece that begins at `begin` < text.size(). Amortised linear over a whole text.
size_t piece_end(PreTokenizer rule, std::string_view text, size_t begin);

}  // namespace forerun
