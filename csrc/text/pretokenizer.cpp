#include "text/pretokenizer.h"

#include <cstdint>

#include "text/unicode.h"
#include "text/utf8.h"

namespace forerun {
namespace {

struct Scanner {
  std::string_view text;

  struct Char {
    uint8_t char_class = 0;  // 0 at the end of the text
    uint32_t length = 0;
  };

  Char at(size_t position) const {
    if (position >= text.size()) return {};
    const CodePoint c = decode_utf8(text, position);
    return {char_class(c.value), c.length};
  }

  // End of the run of characters of a class; `last` is where its last character begins.
  size_t run(size_t position, uint8_t char_class, size_t* last = nullptr) const {
    for (Char c = at(position); c.char_class == char_class; c = at(position)) {
      if (last != nullptr) *last = position;
      position += c.length;
    }
    return position;
  }

  char byte(size_t position) const { return position < text.size() ? text[position] : '\0'; }
  bool is_newline(size_t position) const {
    const char c = byte(position);
    return c == '\r' || c == '\n';
  }
};

// End of 's, 't, 'm, 'd, 're, 've, 'll at `begin`, or `begin`. Regardless of case where `fold` is
// set; then the long s (U+017F), whose upper case is S, counts too.
size_t contraction_end(const Scanner& scanner, size_t begin, bool fold) {
  if (scanner.byte(begin) != '\'') return begin;
  const auto letter = [&](size_t position) {
    const char c = scanner.byte(position);
    return fold && c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  };
  const char first = letter(begin + 1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return begin + 2;
  const char second = letter(begin + 2);
  const bool pair = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
                    (first == 'l' && second == 'l');
  if (pair) return begin + 3;
  if (fold && scanner.text.substr(begin + 1, 2) == "\xC5\xBF") return begin + 3;
  return begin;
}

// \s+(?!\S)|\s+ : a run of white space leaves its last character to what follows it, unless the run
// reaches the end or is that one character.
size_t space_end(const Scanner& scanner, size_t begin, bool digits_end_text) {
  size_t last = begin;
  const size_t end = scanner.run(begin, kSpace, &last);
  const uint8_t next = scanner.at(end).char_class;
  if (next == 0 || (digits_end_text && next == kNumber) || last == begin) return end;
  return last;
}

size_t gpt2_end(const Scanner& scanner, size_t begin, bool isolate_digits) {
  const size_t contraction = contraction_end(scanner, begin, false);
  if (contraction > begin) return contraction;
  if (isolate_digits) {
    const Scanner::Char first = scanner.at(begin);
    if (first.char_class == kNumber) return begin + first.length;
  }
  const size_t start = begin + (scanner.byte(begin) == ' ' ? 1 : 0);
  const uint8_t next = scanner.at(start).char_class;
  const bool joins = next == kLetter || next == kOther || (next == kNumber && !isolate_digits);
  return joins ? scanner.run(start, next) : space_end(scanner, begin, isolate_digits);
}

size_t llama_end(const Scanner& scanner, size_t begin, int digits) {
  const size_t contraction = contraction_end(scanner, begin, true);
  if (contraction > begin) return contraction;
  const Scanner::Char first = scanner.at(begin);
  if (first.char_class == kLetter) return scanner.run(begin, kLetter);
  if (first.char_class == kNumber) {
    size_t end = begin + first.length;
    for (int count = 1; count < digits; ++count) {
      const Scanner::Char next = scanner.at(end);
      if (next.char_class != kNumber) break;
      end += next.length;
    }
    return end;
  }
  if (!scanner.is_newline(begin) && scanner.at(begin + first.length).char_class == kLetter) {
    return scanner.run(begin + first.length, kLetter);
  }
  const size_t start = begin + (scanner.byte(begin) == ' ' ? 1 : 0);
  if (scanner.at(start).char_class == kOther) {
    size_t end = scanner.run(start, kOther);
    while (scanner.is_newline(end)) ++end;
    return end;
  }
  // \s*[\r\n]+ reaches to the last newline of the run of white space.
  for (size_t end = scanner.run(begin, kSpace); end > begin; --end) {
    if (scanner.is_newline(end - 1)) return end;
  }
  return space_end(scanner, begin, false);
}

}  // namespace

size_t piece_end(PreTokenizer rule, std::string_view text, size_t begin) {
  const Scanner scanner{text};
  switch (rule) {
    case PreTokenizer::kGpt2:
      return gpt2_end(scanner, begin, false);
    case PreTokenizer::kSmollm:
      return gpt2_end(scanner, begin, true);
    case PreTokenizer::kLlamaBpe:
      return llama_end(scanner, begin, 3);
    case PreTokenizer::kQwen2:
      return llama_end(scanner, begin, 1);
  }
  return text.size();
}

}  // namespace forerun
