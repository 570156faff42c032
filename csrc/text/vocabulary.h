#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/checkpoint.h"
#include "text/pretokenizer.h"

namespace forerun {

enum class TokenKind : uint8_t { kNormal, kUnknown, kControl, kUserDefined, kUnused, kByte };

// Which sections of the text (what lies between special tokens) get a space in front.
enum class SpacePrefix { kNever, kFirst, kAfterSpecial };

// What a tokenizer is made of, as both file formats describe it. After loading, every id is in
// range, kinds and (SentencePiece without merges) scores have one entry per token, token texts are
// unique but for empty ones.
struct Vocabulary {
  enum class Style { kByteLevel, kSentencePiece };
  struct Merge {
    int32_t left, right, merged;
  };

  Style style = Style::kByteLevel;
  std::vector<std::string>
      tokens;  // as in the file: byte-level tokens in GPT-2's printable alphabet
  std::vector<TokenKind> kinds;
  std::vector<double> scores;  // empty: `merges` in their order decide
  std::vector<Merge> merges;
  std::unordered_map<std::string_view, int32_t> index;  // views into `tokens`

  PreTokenizer pre_tokenizer = PreTokenizer::kGpt2;
  bool ignore_merges = false;  // a piece that is a token is taken whole
  bool nfc = false;
  SpacePrefix space_prefix = SpacePrefix::kNever;
  bool prefix_unless_space = false;  // no prefix where the section begins with white space already
  bool split_words = false;          // SentencePiece: no merge across the beginning of a word
  bool fuse_unknown = true;          // a run of unknown characters is one <unk>
  std::unordered_map<int32_t, uint8_t> strip;  // special token -> kStripLeft | kStripRight
  static constexpr uint8_t kStripLeft = 1, kStripRight = 2;

  int32_t bos = -1, eos = -1, unknown = -1;
  bool add_bos = false, add_eos = false;
  std::vector<int32_t> ends;
  std::string chat_template;

  // Fills `index`; `field` names the list in errors. Refuses duplicates, and special tokens too
  // long to search for.
  void index_tokens(std::string_view field);
  int32_t find(std::string_view text) const;  // -1 when absent
  // Adds a merge whose halves and whole must be tokens: Error(kBadFile) naming `field` and the
  // merge otherwise.
  void add_merge(std::string_view left, std::string_view right, std::string_view field);
  // "left right"; the first space after the first character separates.
  void add_merge(std::string_view pair, std::string_view field);
  int32_t checked_id(int64_t id, std::string_view field) const;
  // Completes `ends`: the ids given, EOS, and the well-known names of end tokens, which become
  // control tokens.
  void collect_ends();
};

Vocabulary read_gguf_vocabulary(const Checkpoint& checkpoint);
Vocabulary read_hf_vocabulary(const Checkpoint& checkpoint);

}  // namespace forerun
