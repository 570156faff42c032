#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "text/tiny_vocabulary.h"

namespace forerun {
namespace {

using Ids = std::vector<int32_t>;

TEST(ByteLevelTokenizer, MergesByRankInsidePieces) {
  const auto tokenizer = load_tokenizer(tiny_byte_level());
  EXPECT_EQ(tokenizer->encode("abc"), (Ids{28}));
  EXPECT_EQ(tokenizer->encode("ab abc"), (Ids{27, 26, 28}));  // "a b" ranks before " a"
  EXPECT_EQ(tokenizer->encode(" aa"), (Ids{29, 0}));
  EXPECT_EQ(tokenizer->encode(""), Ids{});
  EXPECT_EQ(tokenizer->encode("a1b"), (Ids{0, 1}));  // this vocabulary has no digits
  EXPECT_EQ(tokenizer->decode(Ids{27, 26, 28, 30}), "ab abc");
  EXPECT_EQ(tokenizer->decode(Ids{27, 30, 31, 32}, true), "ab<|im_end|><tool>");
  EXPECT_FALSE(tokenizer->strips_leading_space());
}

TEST(ByteLevelTokenizer, ParsesControlTokensOnlyWhenAsked) {
  const auto tokenizer = load_tokenizer(tiny_byte_level());
  EXPECT_EQ(tokenizer->encode("a<|im_end|>b"), (Ids{0, 30, 1}));
  const Ids text = tokenizer->encode("a<|im_end|><tool>", {true, false});
  EXPECT_EQ(text.front(), 0);
  EXPECT_EQ(text.back(), 31);  // user-defined tokens are text of their own
  EXPECT_EQ(std::count(text.begin(), text.end(), 30), 0);
}

TEST(ByteLevelTokenizer, AddsBosAndEosWhereTheFileSaysSo) {
  MemoryCheckpoint checkpoint = tiny_byte_level();
  checkpoint.set("tokenizer.ggml.add_bos_token", true);
  checkpoint.set("tokenizer.ggml.add_eos_token", true);
  const auto tokenizer = load_tokenizer(checkpoint);
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->encode("a"), (Ids{30, 0, 30}));
  EXPECT_EQ(tokenizer->encode("a", {false, true}), (Ids{0}));
  MemoryCheckpoint llama = tiny_byte_level();
  llama.set("tokenizer.ggml.pre", std::string("llama-bpe"));
  EXPECT_TRUE(load_tokenizer(llama)->adds_bos());
  llama.erase("tokenizer.ggml.bos_token_id");
  EXPECT_FALSE(load_tokenizer(llama)->adds_bos());
}

TEST(ByteLevelTokenizer, RowsOfTheModelBeyondTheListSpellNothing) {
  MemoryCheckpoint checkpoint = tiny_byte_level();
  const uint64_t fingerprint = load_tokenizer(checkpoint)->fingerprint();
  checkpoint.add_tensor("token_embd.weight", {40, 8});
  const auto tokenizer = load_tokenizer(checkpoint);
  EXPECT_EQ(tokenizer->vocab_size(), 40);
  EXPECT_EQ(tokenizer->decode(Ids{28, 39, 0}, true), "abca");
  EXPECT_EQ(tokenizer->fingerprint(), fingerprint);  // drafts for the shorter list still fit
  EXPECT_EQ(tokenizer->encode("abc"), (Ids{28}));
}

TEST(ByteLevelTokenizer, TakesAWholePieceWhereMergesAreIgnored) {
  MemoryCheckpoint checkpoint = tiny_byte_level();
  checkpoint.set("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  EXPECT_EQ(load_tokenizer(checkpoint)->encode("abc"), (Ids{27, 2}));
  checkpoint.set("tokenizer.ggml.pre", std::string("llama-bpe"));
  EXPECT_EQ(load_tokenizer(checkpoint)->encode("abc", {false, true}), (Ids{28}));
}

TEST(SentencePieceTokenizer, MergesByScoreWithALeadingSpace) {
  const auto tokenizer = load_tokenizer(tiny_sentencepiece());
  EXPECT_EQ(tokenizer->encode("a"), (Ids{1, 9}));
  EXPECT_EQ(tokenizer->encode("ab"), (Ids{1, 5, 8}));  // "ab" scores better than U+2581 "a"
  EXPECT_EQ(tokenizer->encode("bx", {false, true}), (Ids{5, 10}));
  EXPECT_EQ(tokenizer->encode("baaa", {false, true}),
            (Ids{5, 7, 12, 6}));  // equal scores: leftmost first
  EXPECT_EQ(tokenizer->encode("", {false, true}), Ids{});
  EXPECT_TRUE(tokenizer->strips_leading_space());
  EXPECT_EQ(tokenizer->decode(Ids{1, 9, 5, 8}), "a ab");
  EXPECT_EQ(tokenizer->decode(Ids{1, 5, 9}), " a");
  EXPECT_EQ(tokenizer->token_bytes(9), " a");
}

TEST(SentencePieceTokenizer, FallsBackToBytesThenToUnknown) {
  const auto tokenizer = load_tokenizer(tiny_sentencepiece());
  const EncodeOptions plain{false, false};
  EXPECT_EQ(tokenizer->encode("A", plain), (Ids{5, 3}));
  EXPECT_EQ(tokenizer->encode("aA\xC3", plain),
            (Ids{9, 3, 4}));  // a byte outside UTF-8 has a token too
  EXPECT_EQ(tokenizer->encode("\xC3\xA9?x", plain),
            (Ids{5, 0}));  // no <0xA9>: unknown, a run of three is one
  EXPECT_EQ(tokenizer->encode("?a?", plain), (Ids{5, 0, 6, 0}));
  EXPECT_EQ(tokenizer->encode("<s>", plain).size(), 2U);  // stays text, here unknown
  EXPECT_EQ(tokenizer->decode(Ids{3, 4}), "A\xC3");
}

TEST(SentencePieceTokenizer, GivesEachSectionItsSpace) {
  const auto tokenizer = load_tokenizer(tiny_sentencepiece());
  EXPECT_EQ(tokenizer->encode("a</s>a[T]ab"), (Ids{1, 9, 2, 9, 11, 5, 8}));
  MemoryCheckpoint bare = tiny_sentencepiece();
  bare.set("tokenizer.ggml.add_space_prefix", false);
  bare.set("tokenizer.ggml.add_bos_token", false);
  EXPECT_EQ(load_tokenizer(bare)->encode("a</s> a"), (Ids{6, 2, 9}));
  EXPECT_EQ(load_tokenizer(bare)->decode(Ids{9, 9}), " a a");
}

TEST(Tokenizer, KnowsEndTokensByIdAndByName) {
  MemoryCheckpoint checkpoint = tiny_byte_level();
  checkpoint.set("tokenizer.ggml.eos_token_id", uint64_t{5});
  checkpoint.set("tokenizer.ggml.eot_token_id", uint64_t{7});
  checkpoint.set("tokenizer.ggml.eom_token_id", uint64_t{6});
  const auto tokenizer = load_tokenizer(checkpoint);
  EXPECT_EQ(tokenizer->end_tokens(), (Ids{5, 6, 7, 30}));
  for (int32_t token = -2; token < 40; ++token) {
    EXPECT_EQ(tokenizer->is_end(token), (token >= 5 && token <= 7) || token == 30) << token;
    EXPECT_EQ(tokenizer->is_special(token), token == 30) << token;
  }
  EXPECT_EQ(tokenizer->chat_template(), "{{ x }}");
  EXPECT_EQ(tokenizer->vocab_size(), 33);
  EXPECT_THROW(tokenizer->token_bytes(33), Error);
  EXPECT_THROW(tokenizer->token_bytes(-1), Error);
}

TEST(Tokenizer, OrdinaryTextIsNoEndToken) {
  MemoryCheckpoint checkpoint = tiny_byte_level();
  std::vector<std::string> tokens =
      std::get<std::vector<std::string>>(*checkpoint.find("tokenizer.ggml.tokens"));
  tokens[24] = "</s>";  // a normal token: perhaps HTML
  tokens[31] = "<|end|>";
  checkpoint.set("tokenizer.ggml.tokens", tokens);
  EXPECT_EQ(load_tokenizer(checkpoint)->end_tokens(), (Ids{30, 31}));
  tokens[22] = "<|call|>";
  tokens[23] = "<|return|>";  // with these <|end|> closes a message only
  checkpoint.set("tokenizer.ggml.tokens", tokens);
  EXPECT_EQ(load_tokenizer(checkpoint)->end_tokens(), (Ids{22, 23, 30}));
}

TEST(Tokenizer, DifferenceSeesBytesAndIgnoresPadding) {
  const auto tokenizer = load_tokenizer(tiny_byte_level());
  EXPECT_EQ(tokenizer->difference(*tokenizer), "");
  MemoryCheckpoint other = tiny_byte_level();
  auto tokens = std::get<std::vector<std::string>>(*other.find("tokenizer.ggml.tokens"));
  auto types = std::get<std::vector<int64_t>>(*other.find("tokenizer.ggml.token_type"));
  tokens.resize(32);  // without the padding
  types.resize(32);
  other.set("tokenizer.ggml.tokens", tokens);
  other.set("tokenizer.ggml.token_type", types);
  EXPECT_EQ(tokenizer->difference(*load_tokenizer(other)), "");
  EXPECT_EQ(load_tokenizer(other)->difference(*tokenizer), "");
  tokens[31] = "<tooL>";
  other.set("tokenizer.ggml.tokens", tokens);
  EXPECT_EQ(tokenizer->difference(*load_tokenizer(other)),
            "token 31 is '<tooL>', expected '<tool>'");
  tokens.resize(31);
  types.resize(31);
  other.set("tokenizer.ggml.tokens", tokens);
  other.set("tokenizer.ggml.token_type", types);
  EXPECT_EQ(tokenizer->difference(*load_tokenizer(other)), "vocabulary has 31 tokens, expected 32");
  EXPECT_NE(load_tokenizer(other)->difference(*tokenizer), "");
}

}  // namespace
}  // namespace forerun
