#include "text/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "base/hash.h"
#include "io/file_error.h"
#include "text/bpe_tokenizer.h"
#include "text/vocabulary.h"

namespace forerun {

Tokenizer::Tokenizer(Vocabulary& vocabulary)
    : tokens_(std::move(vocabulary.tokens)),
      end_tokens_(std::move(vocabulary.ends)),
      bos_(vocabulary.bos),
      eos_(vocabulary.eos),
      unknown_(vocabulary.unknown),
      add_bos_(vocabulary.add_bos),
      add_eos_(vocabulary.add_eos),
      chat_template_(std::move(vocabulary.chat_template)) {
  special_.reserve(tokens_.size());
  for (const TokenKind kind : vocabulary.kinds) {
    const bool control = kind == TokenKind::kControl || kind == TokenKind::kUnknown;
    special_.push_back(control ? kControlToken : kind == TokenKind::kUnused ? kPadding : kText);
  }
}

std::string Tokenizer::decode(std::span<const int32_t> tokens, bool special) const {
  std::string out;
  bool strip = strips_leading_space();
  for (const int32_t token : tokens) {
    const std::string bytes = token_bytes(token, special);
    const bool here = strip && !is_special(token) && !bytes.empty();
    out.append(bytes, here && bytes[0] == ' ' ? 1 : 0);
    strip = strip && !here;
  }
  return out;
}

bool Tokenizer::is_special(int32_t token) const {
  return token >= 0 && token < vocab_size() && special_[token] == kControlToken;
}

bool Tokenizer::is_end(int32_t token) const {
  return std::binary_search(end_tokens_.begin(), end_tokens_.end(), token);
}

uint64_t Tokenizer::fingerprint() const {
  size_t rows = special_.size();
  while (rows > 0 && special_[rows - 1] == kPadding) --rows;
  uint64_t hash = rows;
  for (size_t token = 0; token < rows; ++token) {
    hash = hash_bytes(token_bytes(static_cast<int32_t>(token), true), hash);
  }
  return hash;
}

std::string Tokenizer::difference(const Tokenizer& other) const {
  const auto rows = [](const Tokenizer& tokenizer) {
    size_t count = tokenizer.special_.size();
    while (count > 0 && tokenizer.special_[count - 1] == kPadding) --count;
    return static_cast<int32_t>(count);
  };
  const int32_t mine = rows(*this), theirs = rows(other);
  for (int32_t token = 0; token < std::min(mine, theirs); ++token) {
    const std::string here = token_bytes(token, true), there = other.token_bytes(token, true);
    if (here != there) {
      return "token " + std::to_string(token) + " is " + in_quotes(there) + ", expected " +
             in_quotes(here);
    }
  }
  if (mine == theirs) return {};
  return "vocabulary has " + std::to_string(theirs) + " tokens, expected " + std::to_string(mine);
}

namespace {

std::shared_ptr<const Tokenizer> read_tokenizer(const Checkpoint& checkpoint) {
  Vocabulary vocabulary = checkpoint.format() == CheckpointFormat::kGguf
                              ? read_gguf_vocabulary(checkpoint)
                              : read_hf_vocabulary(checkpoint);
  vocabulary.collect_ends();
  if (vocabulary.style == Vocabulary::Style::kByteLevel) {
    return std::make_shared<ByteLevelTokenizer>(std::move(vocabulary));
  }
  return std::make_shared<SentencePieceTokenizer>(std::move(vocabulary));
}

}  // namespace

std::shared_ptr<const Tokenizer> load_tokenizer(const Checkpoint& checkpoint) {
  try {
    return read_tokenizer(checkpoint);
  } catch (const Error& error) {
    const std::string text = error.what();
    if (text.starts_with(checkpoint.path())) throw;
    throw Error(error.kind(), checkpoint.path() + ": " + text);
  }
}

}  // namespace forerun
