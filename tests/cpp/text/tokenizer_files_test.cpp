#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/error.h"
#include "text/tiny_vocabulary.h"
#include "text/tokenizer.h"

namespace forerun {
namespace {

using Ids = std::vector<int32_t>;
using Texts = std::vector<std::string>;

// Loading must fail with this kind and name the field.
void expect_error(const Checkpoint& checkpoint, ErrorKind kind, const std::string& name) {
  try {
    load_tokenizer(checkpoint);
    ADD_FAILURE() << "loaded, expected an error about " << name;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    EXPECT_TRUE(std::string(error.what()).starts_with("memory: ")) << error.what();  // the file
  }
}

void expect_gguf_error(const std::string& key, MetaValue value,
                       ErrorKind kind = ErrorKind::kBadFile,
                       MemoryCheckpoint checkpoint = tiny_byte_level()) {
  checkpoint.set("tokenizer.ggml." + key, std::move(value));
  expect_error(checkpoint, kind, "tokenizer.ggml." + key);
}

TEST(GgufVocabulary, RefusesWhatDoesNotFitAndNamesTheField) {
  const ErrorKind unsupported = ErrorKind::kUnsupported;
  expect_gguf_error("model", std::string("t5"), unsupported);
  expect_gguf_error("model", int64_t{1});
  expect_gguf_error("pre", std::string("tekken"), unsupported);
  expect_gguf_error("tokens", Texts{});
  expect_gguf_error("tokens", std::string("a"));
  expect_gguf_error("token_type", std::vector<int64_t>{1, 1});
  expect_gguf_error("token_type", std::vector<int64_t>(33, 7));
  expect_gguf_error("token_type", std::vector<int64_t>(33, -1));
  expect_gguf_error("token_type", Texts{"x"});
  for (const char* merge : {"a", "a zz", "", " ", "a ", "a  b", "a c"})
    expect_gguf_error("merges", Texts{"a b", merge});
  for (const char* id : {"bos", "eos", "eot", "eom", "fim_pad"}) {
    const std::string key = std::string(id) + "_token_id";
    expect_gguf_error(key, uint64_t{33});
    expect_gguf_error(key, int64_t{-1});
    expect_gguf_error(key, uint64_t{1} << 63);
    expect_gguf_error(key, std::string("30"));
  }
  const MemoryCheckpoint pieces = tiny_sentencepiece();
  expect_gguf_error("scores", std::vector<double>{1, 2}, ErrorKind::kBadFile, pieces);
  expect_gguf_error("scores", std::vector<double>(13, std::nan("")), ErrorKind::kBadFile, pieces);
  expect_gguf_error("unknown_token_id", uint64_t{13}, ErrorKind::kBadFile, pieces);
  for (const char* key : {"model", "tokens", "merges", "pre"}) {
    MemoryCheckpoint checkpoint = tiny_byte_level();
    checkpoint.erase("tokenizer.ggml." + std::string(key));
    expect_error(checkpoint, key == std::string("pre") ? unsupported : ErrorKind::kBadFile, key);
  }
}

TEST(GgufVocabulary, RefusesRepeatedAndOverlongTokens) {
  MemoryCheckpoint checkpoint = tiny_byte_level();
  Texts tokens = std::get<Texts>(*checkpoint.find("tokenizer.ggml.tokens"));
  tokens[3] = "c";
  checkpoint.set("tokenizer.ggml.tokens", tokens);
  expect_error(checkpoint, ErrorKind::kBadFile, "tokenizer.ggml.tokens");
  tokens[3] = "d";
  tokens[31] = std::string(600, 'x');
  checkpoint.set("tokenizer.ggml.tokens", tokens);
  expect_error(checkpoint, ErrorKind::kBadFile, "tokenizer.ggml.tokens");
  tokens[3] = tokens[4] = tokens[31] = "";  // empty rows are padding in the middle
  checkpoint.set("tokenizer.ggml.tokens", tokens);
  EXPECT_EQ(load_tokenizer(checkpoint)->vocab_size(), 33);
}

TEST(GgufVocabulary, AddingATokenThatDoesNotExistIsRefused) {
  MemoryCheckpoint checkpoint = tiny_byte_level();
  checkpoint.erase("tokenizer.ggml.bos_token_id");
  checkpoint.set("tokenizer.ggml.add_bos_token", true);
  expect_error(checkpoint, ErrorKind::kBadFile, "add_bos_token");
}

TEST(HfVocabulary, ReadsTokensMergesAndTemplate) {
  const auto tokenizer = load_tokenizer(tiny_folder());
  EXPECT_EQ(tokenizer->encode("abc</s>ab<t>"), (Ids{4, 5, 2, 6, 5}));
  EXPECT_EQ(tokenizer->eos(), 5);
  EXPECT_EQ(tokenizer->end_tokens(), (Ids{5}));
  EXPECT_EQ(tokenizer->decode(Ids{4, 5, 6}), "abc<t>");
}

// Replaces a part of the JSON text; loading must then fail.
void expect_json_error(const std::string& from, const std::string& to, ErrorKind kind,
                       const std::string& name) {
  std::string json = kTinyJson;
  const size_t at = json.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  json.replace(at, from.size(), to);
  expect_error(tiny_folder(json), kind, name);
}

// Small files that would take much memory: nested tokens, special ones, values.
TEST(Vocabularies, BoundWhatTheyCostToLoad) {
  MemoryCheckpoint nested = tiny_sentencepiece();
  auto tokens = *nested.texts("tokenizer.ggml.tokens");
  auto types = std::vector<int64_t>{2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1, 4, 1};
  for (const char letter : {'c', 'd', 'e', 'f'}) {
    for (size_t length = 1; length <= 1000; ++length) {
      tokens.emplace_back(length, letter);
      types.push_back(1);
    }
  }
  nested.set("tokenizer.ggml.scores", std::vector<double>(tokens.size(), -1.0));
  nested.set("tokenizer.ggml.tokens", tokens);
  nested.set("tokenizer.ggml.token_type", types);
  expect_error(nested, ErrorKind::kBadFile, "too many long tokens");

  MemoryCheckpoint special = tiny_byte_level();
  tokens = *special.texts("tokenizer.ggml.tokens");
  types.assign(tokens.size(), 1);
  for (size_t i = 0; i < 8200; ++i) {
    tokens.push_back(std::string(500, '<') + std::to_string(100000 + i) + std::string(6, '>'));
    types.push_back(3);
  }
  special.set("tokenizer.ggml.tokens", tokens);
  special.set("tokenizer.ggml.token_type", types);
  expect_error(special, ErrorKind::kBadFile, "special tokens");

  MemoryCheckpoint many(CheckpointFormat::kHuggingFace);
  std::string zeros = "[0";
  for (size_t i = 0; i < (size_t{1} << 23); ++i) zeros += ",0";
  many.set_file("tokenizer.json", zeros + "]");
  expect_error(many, ErrorKind::kBadFile, "values");
}

TEST(HfVocabulary, RefusesWhatDoesNotFitAndNamesTheField) {
  const ErrorKind bad = ErrorKind::kBadFile, unsupported = ErrorKind::kUnsupported;
  expect_json_error("\"ab\": 2", "\"ab\": -2", bad, "model.vocab");
  expect_json_error("\"ab\": 2", "\"ab\": 3", bad, "model.vocab");
  expect_json_error("\"ab\": 2", "\"ab\": 99999999999999999999", bad, "model.vocab");
  expect_json_error("\"ab\": 2", "\"ab\": 4000000000", bad, "model.vocab");
  expect_json_error("\"ab\": 2", "\"ab\": \"2\"", bad, "model.vocab");
  expect_json_error("\"a b\"", "\"a x\"", bad, "model.merges");
  expect_json_error("\"a b\"", "7", bad, "model.merges[0]");
  expect_json_error("[\"ab\", \"c\"]", "[\"ab\"]", bad, "model.merges[1]");
  expect_json_error("\"BPE\"", "\"Unigram\"", unsupported, "Unigram");
  expect_json_error("\"BPE\"", "\"BPE\", \"dropout\": 0.5", unsupported, "dropout");
  expect_json_error("\"BPE\"", "\"BPE\", \"dropout\": \"x\"", unsupported, "dropout");
  expect_json_error("\"BPE\"", "\"BPE\", \"end_of_word_suffix\": \"</w>\"", unsupported,
                    "end_of_word_suffix");
  expect_json_error("\"BPE\"", "\"BPE\", \"unk_token\": \"<unk>\"", bad, "model.unk_token");
  expect_json_error("\"normalizer\": null", "\"normalizer\": {\"type\": \"NFKC\"}", unsupported,
                    "NFKC");
  expect_json_error("\"ByteLevel\"", "\"Whitespace\"", unsupported, "Whitespace");
  expect_json_error("\"ByteLevel\"", "{}", bad, "pre_tokenizer.type");
  expect_json_error("\"TemplateProcessing\"", "\"BertProcessing\"", unsupported, "BertProcessing");
  expect_json_error("{\"id\": \"</s>\"}", "{\"id\": \"<e>\"}", bad,
                    "post_processor.single[1].SpecialToken.id");
  expect_json_error("\"id\": 5", "\"id\": 4", bad, "added_tokens[0]");
  expect_json_error("\"content\": \"<t>\"", "\"content\": \"\"", bad, "added_tokens[1].content");
  expect_json_error("\"content\": \"<t>\"", "\"content\": \"<t>\", \"single_word\": true",
                    unsupported, "single_word");
  expect_json_error("}\n}", "}", bad, "tokenizer.json");
  expect_error(MemoryCheckpoint(CheckpointFormat::kHuggingFace), unsupported, "tokenizer.json");
}

TEST(HfVocabulary, RefusesIdsOutsideTheVocabularyInOtherFiles) {
  MemoryCheckpoint checkpoint = tiny_folder();
  checkpoint.set("eos_token_id", std::vector<int64_t>{5, 7});
  expect_error(checkpoint, ErrorKind::kBadFile, "eos_token_id");
  for (const MetaValue& wrong : {MetaValue(std::string("2")), MetaValue(2.0)}) {
    checkpoint.set("eos_token_id", wrong);
    expect_error(checkpoint, ErrorKind::kBadFile, "eos_token_id");
  }
  checkpoint.set("eos_token_id", int64_t{3});
  checkpoint.set_file("generation_config.json", R"({"eos_token_id": [1, -1]})");
  expect_error(checkpoint, ErrorKind::kBadFile, "generation_config.json: eos_token_id[1]");
  checkpoint.set_file("generation_config.json", R"({"eos_token_id": 1})");
  EXPECT_EQ(load_tokenizer(checkpoint)->end_tokens(), (Ids{1, 3, 5}));
  checkpoint.set_file("tokenizer_config.json", R"({"bos_token": "<none>"})");
  expect_error(checkpoint, ErrorKind::kBadFile, "tokenizer_config.json: bos_token");
  checkpoint.set_file("tokenizer_config.json",
                      R"({"chat_template": [{"name": "default", "template": 3}]})");
  expect_error(checkpoint, ErrorKind::kBadFile, "tokenizer_config.json: chat_template[0].template");
  checkpoint.set_file("tokenizer_config.json", "");
  checkpoint.set("vocab_size", int64_t{1} << 40);
  expect_error(checkpoint, ErrorKind::kBadFile, "vocab_size");
}

TEST(HfVocabulary, TheModelsRowsBeyondTheTokensAreEmpty) {
  MemoryCheckpoint checkpoint = tiny_folder();
  checkpoint.set("vocab_size", int64_t{64});
  const auto tokenizer = load_tokenizer(checkpoint);
  EXPECT_EQ(tokenizer->vocab_size(), 64);
  EXPECT_EQ(tokenizer->decode(Ids{63, 0}, true), "a");
  EXPECT_EQ(tokenizer->difference(*load_tokenizer(tiny_folder())), "");
}

}  // namespace
}  // namespace forerun
