#include <algorithm>

#include "base/error.h"
#include "io/file_error.h"
#include "text/bpe_tokenizer.h"
#include "text/utf8.h"

namespace forerun {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581
constexpr size_t kMaxPieceBytes = 1024;
constexpr size_t kMaxPairWork = size_t{1} << 28;  // finding pairs is quadratic in a token's length

// The byte of "<0xNN>", -1 for any other text.
int byte_of(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return -1;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const bool digit = c >= '0' && c <= '9', upper = c >= 'A' && c <= 'F',
               lower = c >= 'a' && c <= 'f';
    if (!digit && !upper && !lower) return -1;
    value = value * 16 + (digit ? c - '0' : (c | 0x20) - 'a' + 10);
  }
  return value;
}

std::string with_spaces(std::string_view token) {
  std::string out;
  for (size_t at = 0; at < token.size();) {
    const bool mark = token.substr(at, kSpaceMark.size()) == kSpaceMark;
    out.push_back(mark ? ' ' : token[at]);
    at += mark ? kSpaceMark.size() : 1;
  }
  return out;
}

// Control tokens and byte tokens are never the result of a merge.
bool merges(TokenKind kind) {
  return kind == TokenKind::kNormal || kind == TokenKind::kUserDefined ||
         kind == TokenKind::kUnused;
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(Vocabulary vocabulary)
    : BpeTokenizer(vocabulary),
      space_prefix_(vocabulary.space_prefix),
      prefix_unless_space_(vocabulary.prefix_unless_space),
      split_words_(vocabulary.split_words),
      fuse_unknown_(vocabulary.fuse_unknown) {
  find_byte_tokens(vocabulary);
  bytes_.resize(tokens_.size());
  for (size_t id = 0; id < tokens_.size(); ++id) {
    const std::string& text = tokens_[id];
    const TokenKind kind = vocabulary.kinds[id];
    if (kind == TokenKind::kByte) {
      bytes_[id] = std::string(1, static_cast<char>(byte_of(text)));
    } else {
      bytes_[id] = kind == TokenKind::kNormal ? with_spaces(text) : text;
    }
    if (!text.empty() && merges(kind) && decode_utf8(text, 0).length == text.size()) {
      characters_.emplace(decode_utf8(text, 0).value, static_cast<int32_t>(id));
    }
  }
  if (!vocabulary.scores.empty()) find_pairs(vocabulary);
}

void SentencePieceTokenizer::find_byte_tokens(const Vocabulary& vocabulary) {
  std::fill(std::begin(byte_tokens_), std::end(byte_tokens_), -1);
  for (size_t id = 0; id < tokens_.size(); ++id) {
    if (vocabulary.kinds[id] != TokenKind::kByte) continue;
    const int byte = byte_of(tokens_[id]);
    if (byte < 0) {
      throw Error(ErrorKind::kBadFile, "byte token " + std::to_string(id) + " is " +
                                           in_quotes(tokens_[id]) + ", expected <0xNN>");
    }
    byte_tokens_[byte] = static_cast<int32_t>(id);
  }
}

int32_t SentencePieceTokenizer::symbol(std::string_view text, const Vocabulary& vocabulary) const {
  const int32_t id = vocabulary.find(text);
  if (id >= 0 && merges(vocabulary.kinds[id])) return id;
  const CodePoint first = decode_utf8(text, 0);
  if (first.length != text.size()) return -1;
  const auto it = characters_.find(first.value);
  return it == characters_.end() ? -1 : it->second;
}

void SentencePieceTokenizer::find_pairs(const Vocabulary& vocabulary) {
  std::vector<double> levels;
  size_t work = 0;
  auto next_symbol = static_cast<int32_t>(tokens_.size());
  for (size_t id = 0; id < tokens_.size(); ++id) {
    const std::string& text = tokens_[id];
    if (!merges(vocabulary.kinds[id])) continue;
    if (text.size() > kMaxPieceBytes) {
      throw Error(ErrorKind::kBadFile, "tokenizer.ggml.tokens: token " + std::to_string(id) +
                                           " has " + std::to_string(text.size()) +
                                           " bytes, expected at most " +
                                           std::to_string(kMaxPieceBytes));
    }
    work += text.size() * text.size();
    if (work > kMaxPairWork) {
      throw Error(ErrorKind::kBadFile, "tokenizer.ggml.tokens: too many long tokens");
    }
    levels.push_back(vocabulary.scores[id]);
    for (size_t at = 0; at < text.size();) {
      const CodePoint c = decode_utf8(text, at);
      if (characters_.emplace(c.value, next_symbol).second) ++next_symbol;
      at += c.length;
    }
  }
  std::sort(levels.begin(), levels.end(), std::greater<>());
  levels.erase(std::unique(levels.begin(), levels.end()), levels.end());
  for (size_t id = 0; id < tokens_.size(); ++id) {
    const std::string_view text = tokens_[id];
    if (text.empty() || !merges(vocabulary.kinds[id])) continue;
    const auto level =
        std::lower_bound(levels.begin(), levels.end(), vocabulary.scores[id], std::greater<>());
    const MergeTable::Rule rule{static_cast<int32_t>(level - levels.begin()),
                                static_cast<int32_t>(id)};
    for (size_t cut = decode_utf8(text, 0).length; cut < text.size();
         cut += decode_utf8(text, cut).length) {
      const int32_t left = symbol(text.substr(0, cut), vocabulary);
      const int32_t right = left < 0 ? -1 : symbol(text.substr(cut), vocabulary);
      if (right >= 0) merges_.add(left, right, rule);
    }
  }
}

void SentencePieceTokenizer::encode_section(const Section& section, Merger& merger,
                                            std::vector<int32_t>& out) const {
  std::string text;
  text.reserve(section.text.size() + section.text.size() / 2);
  const bool wanted = space_prefix_ == SpacePrefix::kAfterSpecial ||
                      (space_prefix_ == SpacePrefix::kFirst && section.first);
  const bool has_one =
      section.text[0] == ' ' || section.text.substr(0, kSpaceMark.size()) == kSpaceMark;
  if (wanted && !(prefix_unless_space_ && has_one)) text += kSpaceMark;
  for (const char c : section.text) {
    if (c == ' ') {
      text += kSpaceMark;
    } else {
      text.push_back(c);
    }
  }
  for (size_t begin = 0; begin < text.size();) {
    const size_t end =
        split_words_ ? std::min(text.find(kSpaceMark, begin + 1), text.size()) : text.size();
    encode_word(std::string_view(text).substr(begin, end - begin), merger, out);
    begin = end;
  }
}

void SentencePieceTokenizer::encode_word(std::string_view text, Merger& merger,
                                         std::vector<int32_t>& out) const {
  merger.clear();
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    const auto it = characters_.find(c.value);
    merger.append(it == characters_.end() ? -1 : it->second, static_cast<uint32_t>(at));
    at += c.length;
  }
  merger.merge(merges_);
  bool after_unknown = false;
  merger.for_each([&](const Merger::Symbol& symbol) {
    if (symbol.id >= 0 && symbol.id < vocab_size()) {
      out.push_back(symbol.id);
      after_unknown = false;
    } else {
      append_unknown(text.substr(symbol.begin, decode_utf8(text, symbol.begin).length),
                     after_unknown, out);
    }
  });
}

void SentencePieceTokenizer::append_unknown(std::string_view character, bool& after_unknown,
                                            std::vector<int32_t>& out) const {
  const auto token = [this](char byte) { return byte_tokens_[static_cast<uint8_t>(byte)]; };
  if (std::all_of(character.begin(), character.end(),
                  [&](char byte) { return token(byte) >= 0; })) {
    for (const char byte : character) out.push_back(token(byte));
    after_unknown = false;
    return;
  }
  if (unknown_ >= 0 && !(after_unknown && fuse_unknown_)) out.push_back(unknown_);
  after_unknown = true;
}

}  // namespace forerun
