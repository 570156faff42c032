#include "text/pretokenizer.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <random>
#include <vector>

#include "text/unicode.h"
#include "text/utf8.h"

namespace forerun {
namespace {

// The oracle: a backtracking matcher over code points, and the regular expressions written out term
// by term.
using Text = std::vector<uint32_t>;
using Rest = std::function<std::optional<size_t>(size_t)>;  // what must match afterwards
using Term = std::function<std::optional<size_t>(const Text&, size_t, const Rest&)>;
using Set = std::function<bool(uint32_t)>;

bool is(uint32_t c, int mask) { return (char_class(c) & mask) != 0; }
bool newline(uint32_t c) { return c == '\r' || c == '\n'; }

// Greedy repetition of a set, least..most times, giving back one by one.
Term repeat(Set set, size_t least, size_t most = SIZE_MAX) {
  return [=](const Text& text, size_t at, const Rest& rest) -> std::optional<size_t> {
    size_t count = 0;
    while (count < most && at + count < text.size() && set(text[at + count])) ++count;
    for (size_t n = count + 1; n-- > least;) {
      if (const auto end = rest(at + n)) return end;
    }
    return std::nullopt;
  };
}

Term not_before_visible() {  // (?!\S)
  return [](const Text& text, size_t at, const Rest& rest) -> std::optional<size_t> {
    if (at < text.size() && !is(text[at], kSpace)) return std::nullopt;
    return rest(at);
  };
}

Term word(const std::string& letters, bool fold) {
  return [=](const Text& text, size_t at, const Rest& rest) -> std::optional<size_t> {
    for (size_t i = 0; i < letters.size(); ++i) {
      if (at + i >= text.size()) return std::nullopt;
      uint32_t c = text[at + i];
      if (fold && c >= 'A' && c <= 'Z') c += 32;
      if (fold && c == 0x17F) c = 's';
      if (c != static_cast<uint32_t>(letters[i])) return std::nullopt;
    }
    return rest(at + letters.size());
  };
}

using Pattern = std::vector<std::vector<Term>>;  // alternatives of sequences

size_t match(const Pattern& pattern, const Text& text, size_t at) {
  for (const auto& sequence : pattern) {
    std::function<std::optional<size_t>(size_t, size_t)> run = [&](size_t term, size_t position) {
      if (term == sequence.size()) return std::optional(position);
      return sequence[term](text, position, [&, term](size_t next) { return run(term + 1, next); });
    };
    const auto end = run(0, at);
    if (end && *end > at) return *end;
  }
  ADD_FAILURE() << "nothing matches";
  return at + 1;
}

Pattern pattern_of(PreTokenizer rule) {
  const bool gpt2 = rule == PreTokenizer::kGpt2 || rule == PreTokenizer::kSmollm;
  Pattern pattern;
  for (const char* text : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
    pattern.push_back({word(text, !gpt2)});
  const auto in = [](int mask) { return [mask](uint32_t c) { return is(c, mask); }; };
  const Term space = repeat([](uint32_t c) { return c == ' '; }, 0, 1);
  if (gpt2) {
    for (const int mask : {kLetter, kNumber, kOther})
      pattern.push_back({space, repeat(in(mask), 1)});
  } else {
    const auto lead = [](uint32_t c) { return !newline(c) && !is(c, kLetter | kNumber); };
    pattern.push_back({repeat(lead, 0, 1), repeat(in(kLetter), 1)});
    pattern.push_back({repeat(in(kNumber), 1, rule == PreTokenizer::kLlamaBpe ? 3 : 1)});
    pattern.push_back({space, repeat(in(kOther), 1), repeat(newline, 0)});
    pattern.push_back({repeat(in(kSpace), 0), repeat(newline, 1)});
  }
  pattern.push_back({repeat(in(kSpace), 1), not_before_visible()});
  pattern.push_back({repeat(in(kSpace), 1)});
  return pattern;
}

std::string utf8(const Text& text) {
  std::string out;
  for (const uint32_t c : text) append_utf8(out, c);
  return out;
}

std::vector<std::string> expected_pieces(PreTokenizer rule, const Text& text) {
  std::vector<std::string> pieces;
  const Pattern pattern = pattern_of(rule);
  const auto split = [&](const Text& part) {
    for (size_t at = 0; at < part.size();) {
      const size_t end = match(pattern, part, at);
      pieces.push_back(utf8(Text(part.begin() + at, part.begin() + end)));
      at = end;
    }
  };
  if (rule != PreTokenizer::kSmollm) {
    split(text);
    return pieces;
  }
  Text part;
  for (const uint32_t c : text) {
    if (!is(c, kNumber)) {
      part.push_back(c);
      continue;
    }
    split(part);
    part.clear();
    pieces.push_back(utf8({c}));
  }
  split(part);
  return pieces;
}

std::vector<std::string> pieces_of(PreTokenizer rule, const std::string& text) {
  std::vector<std::string> pieces;
  for (size_t at = 0; at < text.size();) {
    const size_t end = piece_end(rule, text, at);
    if (end <= at || end > text.size()) {
      ADD_FAILURE() << "piece from " << at << " to " << end;
      break;
    }
    pieces.push_back(text.substr(at, end - at));
    at = end;
  }
  return pieces;
}

constexpr PreTokenizer kAll[] = {PreTokenizer::kGpt2, PreTokenizer::kLlamaBpe,
                                 PreTokenizer::kSmollm, PreTokenizer::kQwen2};

TEST(PreTokenizer, EqualsItsRegularExpressionOnAllShortTexts) {
  const Text alphabet = {'a', '\'', 's', 'L', '1', ' ', '\n', '\t', '!', 0xE9, 0x3000, 0x17F};
  for (const PreTokenizer rule : kAll) {
    for (uint32_t code = 0; code < 12 * 12 * 12 * 12; ++code) {
      const Text text = {alphabet[code % 12], alphabet[code / 12 % 12], alphabet[code / 144 % 12],
                         alphabet[code / 1728]};
      ASSERT_EQ(pieces_of(rule, utf8(text)), expected_pieces(rule, text))
          << utf8(text) << " " << static_cast<int>(rule);
    }
  }
}

TEST(PreTokenizer, EqualsItsRegularExpressionOnRandomTexts) {
  std::mt19937 random(7);
  const Text alphabet = {'a',    'b',   '\'', 's',  'l',    'R',   'E',     '0',
                         '9',    ' ',   ' ',  '\n', '\r',   '\t',  '.',     '(',
                         0x4E00, 0x661, 0xBD, 0xA0, 0x2028, 0x301, 0x1F600, kInvalidByte + 0xFF,
                         0x17F,  0x85};
  for (int round = 0; round < 4000; ++round) {
    Text text(random() % 40);
    for (uint32_t& c : text) c = alphabet[random() % alphabet.size()];
    const PreTokenizer rule = kAll[round % 4];
    ASSERT_EQ(pieces_of(rule, utf8(text)), expected_pieces(rule, text)) << utf8(text);
  }
}

}  // namespace
}  // namespace forerun
