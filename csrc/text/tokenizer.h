#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint.h"

namespace forerun {

struct Vocabulary;  // text/vocabulary.h

struct EncodeOptions {
  bool add_special = true;  // BOS / EOS where the model's rules ask for them
  bool parse_special =
      true;  // "<|im_start|>" in the text becomes the special token; false: it stays text
};

// Text to token ids and back. Immutable and thread-safe. Any byte string encodes, invalid UTF-8
// included (byte-level BPE: as bytes; SentencePiece-style: byte fallback tokens or <unk>).
class FORERUN_API Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual std::vector<int32_t> encode(std::string_view text,
                                      const EncodeOptions& options = {}) const = 0;

  // The bytes of a token, possibly part of a UTF-8 character. Special tokens give their text when
  // `special` is true and nothing otherwise. Throws Error(kBadArgument) for an id outside the
  // vocabulary.
  virtual std::string token_bytes(int32_t token, bool special = false) const = 0;

  // Bytes of a whole sequence (SentencePiece: without the leading space it added, that is one space
  // at the beginning of the first token that is not special).
  std::string decode(std::span<const int32_t> tokens, bool special = false) const;

  int32_t vocab_size() const { return static_cast<int32_t>(tokens_.size()); }
  int32_t bos() const { return bos_; }  // -1 when the model has none
  int32_t eos() const { return eos_; }
  bool adds_bos() const { return add_bos_; }
  bool is_special(int32_t token) const;  // control tokens; false for ids outside the vocabulary
  bool is_end(int32_t token) const;      // EOS, EOT, EOM: generation ends here
  const std::vector<int32_t>& end_tokens() const { return end_tokens_; }
  const std::vector<std::string>& tokens() const {
    return tokens_;
  }  // raw entries of the vocabulary
  const std::string& chat_template() const {
    return chat_template_;
  }  // Jinja source, empty when there is none

  // Empty when `other` can draft for this tokenizer (every id means the same bytes), else the
  // reason why not. Padding rows at the end of either vocabulary do not count.
  std::string difference(const Tokenizer& other) const;

  // Equal for vocabularies without a difference(); files that hold token ids carry it.
  uint64_t fingerprint() const;

  virtual bool strips_leading_space() const { return false; }

 protected:
  explicit Tokenizer(Vocabulary& vocabulary);  // takes the tokens and the ids

  enum Role : uint8_t { kText, kControlToken, kPadding };
  std::vector<std::string> tokens_;
  std::vector<uint8_t> special_;  // per token: its Role
  std::vector<int32_t> end_tokens_;
  int32_t bos_ = -1, eos_ = -1, unknown_ = -1;
  bool add_bos_ = false, add_eos_ = false;
  std::string chat_template_;
};

// From GGUF metadata (tokenizer.ggml.*) or tokenizer.json + tokenizer_config.json of a Hugging Face
// folder. Throws Error(kBadFile) naming the field, Error(kUnsupported) naming the model or
// pre-tokenizer.
FORERUN_API std::shared_ptr<const Tokenizer> load_tokenizer(const Checkpoint& checkpoint);

}  // namespace forerun
