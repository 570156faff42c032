#include "text/unicode.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <vector>

#include "text/utf8.h"

namespace forerun {
namespace {

struct Range {
  uint32_t first, last;
};
struct ClassRange {
  uint32_t first, last;
  uint8_t combining_class;
};
struct Decomposition {
  uint32_t code_point, first, second;  // second is 0 where one character stands for another
};
struct Composition {
  uint32_t first, second, code_point;
};

#include "text/unicode_tables.inl"

template <typename Table>
auto find_range(const Table& table, uint32_t code_point) {
  auto it = std::upper_bound(std::begin(table), std::end(table), code_point,
                             [](uint32_t value, const auto& range) { return value < range.first; });
  if (it == std::begin(table) || std::prev(it)->last < code_point) return std::end(table);
  return std::prev(it);
}

bool is_white_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

CharClass classify(uint32_t c) {
  if (is_white_space(c)) return kSpace;
  if (find_range(kLetters, c) != std::end(kLetters)) return kLetter;
  if (find_range(kNumbers, c) != std::end(kNumbers)) return kNumber;
  return kOther;
}

// Hangul syllables decompose by arithmetic (Unicode 3.12).
constexpr uint32_t kSyllableBase = 0xAC00, kLeadBase = 0x1100, kVowelBase = 0x1161,
                   kTailBase = 0x11A7;
constexpr uint32_t kLeads = 19, kVowels = 21, kTails = 28, kSyllables = kLeads * kVowels * kTails;

uint8_t combining_class(uint32_t code_point) {
  const auto* it = find_range(kCombiningClasses, code_point);
  return it == std::end(kCombiningClasses) ? 0 : it->combining_class;
}

void append_decomposed(std::vector<uint32_t>& out, uint32_t code_point) {
  if (code_point - kSyllableBase < kSyllables) {
    const uint32_t index = code_point - kSyllableBase;
    out.push_back(kLeadBase + index / (kVowels * kTails));
    out.push_back(kVowelBase + index % (kVowels * kTails) / kTails);
    if (index % kTails != 0) out.push_back(kTailBase + index % kTails);
    return;
  }
  const auto* it = std::lower_bound(
      std::begin(kDecompositions), std::end(kDecompositions), code_point,
      [](const Decomposition& entry, uint32_t value) { return entry.code_point < value; });
  if (it == std::end(kDecompositions) || it->code_point != code_point) {
    out.push_back(code_point);
    return;
  }
  append_decomposed(out, it->first);  // at most four deep: a property of the Unicode data
  if (it->second != 0) append_decomposed(out, it->second);
}

// The character that stands for the pair, 0 when there is none.
uint32_t compose(uint32_t first, uint32_t second) {
  if (first - kLeadBase < kLeads && second - kVowelBase < kVowels) {
    return kSyllableBase + ((first - kLeadBase) * kVowels + second - kVowelBase) * kTails;
  }
  if (first - kSyllableBase < kSyllables && (first - kSyllableBase) % kTails == 0 &&
      second - kTailBase - 1 < kTails - 1) {
    return first + (second - kTailBase);
  }
  const auto* it =
      std::lower_bound(std::begin(kCompositions), std::end(kCompositions), std::pair(first, second),
                       [](const Composition& entry, auto value) {
                         return std::pair(entry.first, entry.second) < value;
                       });
  const bool found = it != std::end(kCompositions) && it->first == first && it->second == second;
  return found ? it->code_point : 0;
}

// Orders every run of combining marks by class, keeping the order of equals.
void reorder_marks(std::vector<uint32_t>& text) {
  std::vector<std::pair<uint8_t, uint32_t>> run;
  for (size_t i = 0; i < text.size();) {
    run.clear();
    size_t end = i;
    for (; end < text.size(); ++end) {
      const uint8_t mark = combining_class(text[end]);
      if (mark == 0) break;
      run.emplace_back(mark, text[end]);
    }
    if (run.size() > 1) {
      std::stable_sort(run.begin(), run.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
      for (size_t k = 0; k < run.size(); ++k) text[i + k] = run[k].second;
    }
    i = std::max(end, i + 1);
  }
}

// Joins each character with the nearest starter before it unless a mark between them blocks it.
void compose_in_place(std::vector<uint32_t>& text) {
  constexpr size_t kNone = static_cast<size_t>(-1);
  size_t out = 0, starter = kNone;
  int last_class = -1;  // of the character before, since the starter; -1 directly after it
  for (const uint32_t code_point : text) {
    const int mark = combining_class(code_point);
    const bool blocked = last_class >= mark && last_class != -1;
    const uint32_t joined = starter == kNone || blocked ? 0 : compose(text[starter], code_point);
    if (joined != 0) {
      text[starter] = joined;
      continue;
    }
    if (mark == 0) {
      starter = out;
      last_class = -1;
    } else {
      last_class = mark;
    }
    text[out++] = code_point;
  }
  text.resize(out);
}

}  // namespace

CharClass char_class(uint32_t code_point) {
  if (code_point < 0x80) {
    const uint32_t lower = code_point | 0x20;
    if (lower >= 'a' && lower <= 'z') return kLetter;
    if (code_point >= '0' && code_point <= '9') return kNumber;
    return is_white_space(code_point) ? kSpace : kOther;
  }
  return classify(code_point);
}

std::string to_nfc(std::string_view text) {
  // Below U+0300 every character is its own normal form and composes with nothing before it.
  bool plain = true;
  for (const char c : text) plain = plain && static_cast<uint8_t>(c) < 0xCC;
  if (plain) return std::string(text);
  std::vector<uint32_t> code_points;
  code_points.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    append_decomposed(code_points, c.value);
    at += c.length;
  }
  reorder_marks(code_points);
  compose_in_place(code_points);
  std::string out;
  out.reserve(text.size());
  for (const uint32_t code_point : code_points) append_utf8(out, code_point);
  return out;
}

}  // namespace forerun
