#include <algorithm>
#include <array>

#include "text/bpe_tokenizer.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace forerun {
namespace {

// GPT-2 writes a vocabulary of bytes in printable characters: printable Latin-1 stands for itself,
// the other bytes, in order, for U+0100 and up.
struct ByteAlphabet {
  std::array<uint32_t, 256> character{};
  std::array<int16_t, 0x144> byte{};

  constexpr ByteAlphabet() {
    byte.fill(-1);
    uint32_t next = 0x100;
    for (uint32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
      character[b] = printable ? b : next++;
      byte[character[b]] = static_cast<int16_t>(b);
    }
  }
};
constexpr ByteAlphabet kAlphabet;

// A token outside the alphabet stands for its own text.
std::string bytes_of(const std::string& token) {
  std::string out;
  for (size_t at = 0; at < token.size();) {
    const CodePoint c = decode_utf8(token, at);
    if (c.value >= kAlphabet.byte.size() || kAlphabet.byte[c.value] < 0) return token;
    out.push_back(static_cast<char>(kAlphabet.byte[c.value]));
    at += c.length;
  }
  return out;
}

}  // namespace

ByteLevelTokenizer::ByteLevelTokenizer(Vocabulary vocabulary)
    : BpeTokenizer(vocabulary),
      rule_(vocabulary.pre_tokenizer),
      space_prefix_(vocabulary.space_prefix),
      ignore_merges_(vocabulary.ignore_merges),
      nfc_(vocabulary.nfc),
      fuse_unknown_(vocabulary.fuse_unknown) {
  bytes_.resize(tokens_.size());
  for (size_t id = 0; id < tokens_.size(); ++id) {
    const bool text =
        vocabulary.kinds[id] == TokenKind::kNormal || vocabulary.kinds[id] == TokenKind::kByte;
    bytes_[id] = text ? bytes_of(tokens_[id]) : tokens_[id];
    if (text && ignore_merges_ && !bytes_[id].empty())
      whole_.emplace(bytes_[id], static_cast<int32_t>(id));
  }
  for (uint32_t b = 0; b < 256; ++b) {
    std::string character;
    append_utf8(character, kAlphabet.character[b]);
    byte_tokens_[b] = vocabulary.find(character);
  }
}

void ByteLevelTokenizer::encode_section(const Section& section, Merger& merger,
                                        std::vector<int32_t>& out) const {
  std::string normal, spaced;
  std::string_view text = section.text;
  if (nfc_) text = normal = to_nfc(text);
  if (space_prefix_ != SpacePrefix::kNever && text[0] != ' ') {
    spaced.push_back(' ');
    text = spaced.append(text);
  }
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = piece_end(rule_, text, begin);
    encode_piece(text.substr(begin, end - begin), merger, out);
    begin = end;
  }
}

void ByteLevelTokenizer::encode_piece(std::string_view piece, Merger& merger,
                                      std::vector<int32_t>& out) const {
  if (ignore_merges_) {
    const auto it = whole_.find(piece);
    if (it != whole_.end()) {
      out.push_back(it->second);
      return;
    }
  }
  merger.clear();
  bool after_unknown = false;
  for (size_t at = 0; at < piece.size(); ++at) {
    const int32_t token = byte_tokens_[static_cast<uint8_t>(piece[at])];
    const bool unknown = token < 0;
    if (!unknown) {
      merger.append(token, static_cast<uint32_t>(at));
    } else if (unknown_ >= 0 && !(after_unknown && fuse_unknown_)) {
      merger.append(unknown_, static_cast<uint32_t>(at));
    }
    after_unknown = unknown;
  }
  merger.merge(merges_);
  merger.for_each([&out](const Merger::Symbol& symbol) { out.push_back(symbol.id); });
}

}  // namespace forerun
