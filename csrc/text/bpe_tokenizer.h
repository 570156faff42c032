#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/merge.h"
#include "text/special_matcher.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace forerun {

// What both families share: text is cut at special tokens, each section between them becomes
// symbols, symbols merge.
class BpeTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const override;
  std::string token_bytes(int32_t token, bool special) const override;

 protected:
  explicit BpeTokenizer(Vocabulary& vocabulary);

  struct Section {
    std::string_view text;  // not empty
    bool first = true;      // nothing of the text lies before it
  };
  virtual void encode_section(const Section& section, Merger& merger,
                              std::vector<int32_t>& out) const = 0;

  std::vector<std::string> bytes_;  // per token; filled by the derived class
  MergeTable merges_;

 private:
  SpecialMatcher specials_;
  std::unordered_map<int32_t, uint8_t> strip_;
};

// GPT-2's scheme (Radford et al. 2019): every byte is a symbol, so nothing is unknown; merges stay
// inside the pieces of a pre-tokenizer. Bytes that a vocabulary lacks become <unk>, or nothing
// where it has none, as in the `tokenizers` library. Files of Hugging Face that ask for NFC get it;
// GGUF files do not say, and GGUF runtimes do not apply it.
class ByteLevelTokenizer : public BpeTokenizer {
 public:
  explicit ByteLevelTokenizer(Vocabulary vocabulary);

 private:
  void encode_section(const Section& section, Merger& merger,
                      std::vector<int32_t>& out) const override;
  void encode_piece(std::string_view piece, Merger& merger, std::vector<int32_t>& out) const;

  int32_t byte_tokens_[256];
  std::unordered_map<std::string_view, int32_t>
      whole_;  // bytes -> token, only where merges may be ignored
  PreTokenizer rule_;
  SpacePrefix space_prefix_;
  bool ignore_merges_, nfc_, fuse_unknown_;
};

// SentencePiece's BPE (Kudo, Richardson 2018): symbols are characters, a space is U+2581,
// characters outside the vocabulary become byte tokens <0xNN> or <unk>. Two symbols merge when
// their text is a token, best score first; all such pairs are found at load, so that encoding looks
// up ids only. Where the file lists merges, these decide instead.
class SentencePieceTokenizer : public BpeTokenizer {
 public:
  explicit SentencePieceTokenizer(Vocabulary vocabulary);
  bool strips_leading_space() const override { return space_prefix_ != SpacePrefix::kNever; }

 private:
  void encode_section(const Section& section, Merger& merger,
                      std::vector<int32_t>& out) const override;
  void encode_word(std::string_view text, Merger& merger, std::vector<int32_t>& out) const;
  void append_unknown(std::string_view character, bool& after_unknown,
                      std::vector<int32_t>& out) const;
  void find_byte_tokens(const Vocabulary& vocabulary);
  void find_pairs(const Vocabulary& vocabulary);
  int32_t symbol(std::string_view text, const Vocabulary& vocabulary) const;

  int32_t byte_tokens_[256];
  // Code point -> token; or, for a character that is only ever part of a token, a number above all
  // tokens.
  std::unordered_map<uint32_t, int32_t> characters_;
  SpacePrefix space_prefix_;
  bool prefix_unless_space_, split_words_, fuse_unknown_;
};

}  // namespace forerun
