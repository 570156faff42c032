#include "text/bpe_tokenizer.h"

#include "base/error.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace forerun {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;  // symbols are counted in 32 bits

size_t skip_space(std::string_view text, size_t at) {
  while (at < text.size()) {
    const CodePoint c = decode_utf8(text, at);
    if (char_class(c.value) != kSpace) break;
    at += c.length;
  }
  return at;
}

size_t trim_space(std::string_view text, size_t begin, size_t end) {
  while (end > begin) {
    size_t start = end - 1;
    while (start > begin && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80 && end - start < 4)
      --start;
    const CodePoint c = decode_utf8(text, start);
    if (start + c.length != end || char_class(c.value) != kSpace) break;
    end = start;
  }
  return end;
}

}  // namespace

BpeTokenizer::BpeTokenizer(Vocabulary& vocabulary)
    : Tokenizer(vocabulary), strip_(std::move(vocabulary.strip)) {
  for (size_t id = 0; id < tokens_.size(); ++id) {
    const TokenKind kind = vocabulary.kinds[id];
    const bool user_defined = kind == TokenKind::kUserDefined;
    if (user_defined || kind == TokenKind::kControl || kind == TokenKind::kUnknown) {
      specials_.add(tokens_[id], static_cast<int32_t>(id), user_defined);
    }
  }
  merges_.reserve(vocabulary.merges.size());
  int32_t rank = 0;
  for (const Vocabulary::Merge& merge : vocabulary.merges) {
    merges_.add(merge.left, merge.right, {rank++, merge.merged});
  }
}

std::vector<int32_t> BpeTokenizer::encode(std::string_view text,
                                          const EncodeOptions& options) const {
  if (text.size() > kMaxTextBytes) {
    throw Error(ErrorKind::kBadArgument, "text has " + std::to_string(text.size()) +
                                             " bytes, expected at most " +
                                             std::to_string(kMaxTextBytes));
  }
  std::vector<int32_t> out;
  Merger merger;
  if (options.add_special && add_bos_) out.push_back(bos_);
  size_t begin = 0;
  while (begin < text.size()) {
    const SpecialMatcher::Match match = specials_.find(text, begin, options.parse_special);
    const auto it = strip_.find(match.token);
    const uint8_t strip = it == strip_.end() ? 0 : it->second;
    const size_t end =
        strip & Vocabulary::kStripLeft ? trim_space(text, begin, match.begin) : match.begin;
    if (end > begin) encode_section({text.substr(begin, end - begin), begin == 0}, merger, out);
    if (match.token >= 0) out.push_back(match.token);
    begin = strip & Vocabulary::kStripRight ? skip_space(text, match.end) : match.end;
  }
  if (options.add_special && add_eos_) out.push_back(eos_);
  return out;
}

std::string BpeTokenizer::token_bytes(int32_t token, bool special) const {
  if (token < 0 || token >= vocab_size()) {
    throw Error(ErrorKind::kBadArgument, "token id is " + std::to_string(token) + ", expected 0.." +
                                             std::to_string(vocab_size()) + " exclusive");
  }
  if (special_[token] == kPadding || (special_[token] == kControlToken && !special)) return {};
  return bytes_[token];
}

}  // namespace forerun
