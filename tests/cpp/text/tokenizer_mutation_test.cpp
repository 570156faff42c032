#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "text/tiny_vocabulary.h"
#include "text/tokenizer.h"

namespace forerun {
namespace {

// Whatever the metadata, loading either succeeds or throws Error; what has loaded then works. Run
// under the sanitizers this also finds every read outside a table.
bool survives(const Checkpoint& checkpoint) {
  try {
    const auto tokenizer = load_tokenizer(checkpoint);
    std::vector<int32_t> all;
    for (int32_t token = 0; token < std::min(tokenizer->vocab_size(), 300); ++token)
      all.push_back(token);
    tokenizer->decode(all, true);
    tokenizer->decode(all, false);
    for (const int32_t token : tokenizer->end_tokens()) EXPECT_LT(token, tokenizer->vocab_size());
    for (const char* text : {"abc ab  aab<|im_end|>[T]</s> <t>\xC3\xA9\xFF", "", " a"}) {
      for (const EncodeOptions options : {EncodeOptions{true, true}, EncodeOptions{false, false}}) {
        for (const int32_t token : tokenizer->encode(text, options)) {
          EXPECT_TRUE(token >= 0 && token < tokenizer->vocab_size());
        }
      }
    }
    EXPECT_EQ(tokenizer->difference(*tokenizer), "");
    return true;
  } catch (const Error&) {
    return false;
  }
}

const std::string kFragments[] = {"null",
                                  "true",
                                  "-1",
                                  "1e99",
                                  "\"\"",
                                  "\"a\"",
                                  "[]",
                                  "{}",
                                  "[[[",
                                  "0",
                                  "\"\\u2581\"",
                                  "\"\\ud800\"",
                                  "18446744073709551615",
                                  "\"Sequence\"",
                                  "\"Metaspace\"",
                                  "\"Split\"",
                                  "\"NFC\"",
                                  "\"<0x41>\"",
                                  ",",
                                  ":",
                                  "}",
                                  "]",
                                  "\"type\"",
                                  "\"id\"",
                                  "\"vocab\"",
                                  "5"};

const char* const kSentencePieceJson = R"({
  "added_tokens": [{"id": 0, "content": "<unk>", "special": true}, {"id": 7, "content": "[T]", "lstrip": true, "rstrip": true}],
  "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
     {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
  "pre_tokenizer": null,
  "post_processor": {"type": "Sequence", "processors": [{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]}]},
  "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true,
    "vocab": {"<unk>": 0, "<s>": 1, "<0x41>": 2, "\u2581": 3, "a": 4, "b": 5, "ab": 6}, "merges": [["a", "b"]]}
})";
const char* const kMetaspaceJson = R"({
  "added_tokens": [],
  "normalizer": null,
  "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": true}]},
  "model": {"vocab": {"\u2581": 0, "a": 1, "\u2581a": 2}, "merges": ["\u2581 a"]}
})";
const char* const kSplitJson = R"({
  "added_tokens": [{"id": 3, "content": "<t>", "special": false}],
  "normalizer": {"type": "NFC"},
  "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "\\p{N}"}, "behavior": "Isolated", "invert": false},
     {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}]},
  "model": {"type": "BPE", "ignore_merges": true, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
})";

void mutate(std::string& text, std::mt19937& random) {
  for (int edits = 1 + static_cast<int>(random() % 3); edits > 0 && !text.empty(); --edits) {
    const size_t at = random() % text.size();
    switch (random() % 5) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, 1 + random() % 8);
        break;
      case 2:
        text.insert(at, kFragments[random() % std::size(kFragments)]);
        break;
      case 3: {  // one value in place of another: stays JSON more often
        const size_t colon = text.find(':', at);
        if (colon == std::string::npos) break;
        const size_t end = std::min(text.find_first_of(",}]", colon), text.size());
        text.replace(colon + 1, end - colon - 1, kFragments[random() % std::size(kFragments)]);
        break;
      }
      default:
        text.insert(at, text.substr(random() % text.size(), random() % 40));
    }
  }
}

TEST(TokenizerMutations, OfTokenizerJsonNeverCrash) {
  std::mt19937 random(17);
  int loaded = 0;
  for (const char* base : {kTinyJson, kSentencePieceJson, kMetaspaceJson, kSplitJson}) {
    ASSERT_TRUE(survives(tiny_folder(base)));
    for (int round = 0; round < 1500; ++round) {
      std::string json = base;
      mutate(json, random);
      loaded += survives(tiny_folder(json)) ? 1 : 0;
    }
  }
  EXPECT_GT(loaded, 100);  // the sweep reaches beyond the parser
}

TEST(TokenizerMutations, OfConfigurationFilesNeverCrash) {
  std::mt19937 random(19);
  const std::string base =
      R"({"bos_token": {"content": "a"}, "eos_token": "</s>", "add_bos_token": true,
      "eos_token_id": [1, 2], "chat_template": [{"name": "default", "template": "x"}]})";
  for (int round = 0; round < 2000; ++round) {
    MemoryCheckpoint checkpoint = tiny_folder();
    std::string config = base, generation = base;
    mutate(config, random);
    mutate(generation, random);
    checkpoint.set_file("tokenizer_config.json", config);
    checkpoint.set_file("generation_config.json", round % 2 == 0 ? "" : generation);
    checkpoint.set("eos_token_id", static_cast<int64_t>(random() % 10) - 1);
    checkpoint.set("vocab_size", static_cast<int64_t>(random() % 20) - 5);
    survives(checkpoint);
  }
}

MetaValue random_value(std::mt19937& random) {
  const auto text = [&] { return kFragments[random() % std::size(kFragments)]; };
  const size_t count = random() % 40;
  switch (random() % 8) {
    case 0:
      return random() % 2 == 0;
    case 1:
      return static_cast<int64_t>(random() % 50) - 5;
    case 2:
      return (uint64_t{random()} << 32) | random();
    case 3:
      return text();
    case 4:
      return std::vector<int64_t>(count, static_cast<int64_t>(random() % 9) - 1);
    case 5:
      return std::vector<double>(count, -1.5 * static_cast<double>(random() % 3));
    case 6:
      return std::vector<uint64_t>(count, random());
    default:
      return std::vector<std::string>(count, text());
  }
}

// Changes one element of a list in place, so that the rest of the file still fits.
void nudge(MetaValue& value, std::mt19937& random) {
  if (auto* texts = std::get_if<std::vector<std::string>>(&value);
      texts != nullptr && !texts->empty()) {
    std::string& text = (*texts)[random() % texts->size()];
    if (random() % 2 == 0) {
      text = (*texts)[random() % texts->size()] + text;
    } else {
      mutate(text, random);
    }
  } else if (auto* numbers = std::get_if<std::vector<int64_t>>(&value);
             numbers != nullptr && !numbers->empty()) {
    (*numbers)[random() % numbers->size()] = static_cast<int64_t>(random() % 8);
  } else if (auto* reals = std::get_if<std::vector<double>>(&value);
             reals != nullptr && !reals->empty()) {
    (*reals)[random() % reals->size()] = static_cast<double>(random() % 5) - 2;
  } else {
    value = random_value(random);
  }
}

TEST(TokenizerMutations, OfGgufMetadataNeverCrash) {
  std::mt19937 random(23);
  const char* const extra[] = {"add_bos_token", "add_eos_token", "add_space_prefix",
                               "unknown_token_id", "eot_token_id"};
  int loaded = 0;
  for (const MemoryCheckpoint& base : {tiny_byte_level(), tiny_sentencepiece()}) {
    ASSERT_TRUE(survives(base));
    std::vector<std::string> keys;
    for (const auto& [key, value] : base.metadata()) keys.push_back(key);
    for (const char* key : extra) keys.push_back("tokenizer.ggml." + std::string(key));
    for (int round = 0; round < 3000; ++round) {
      MemoryCheckpoint checkpoint = base;
      for (size_t edits = 1 + random() % 3; edits > 0; --edits) {
        const std::string& key = keys[random() % keys.size()];
        const MetaValue* old = checkpoint.find(key);
        MetaValue value = old == nullptr ? random_value(random) : *old;
        if (random() % 4 == 0) {
          value = random_value(random);
        } else {
          nudge(value, random);
        }
        checkpoint.set(key, std::move(value));
      }
      loaded += survives(checkpoint) ? 1 : 0;
    }
  }
  EXPECT_GT(loaded, 500);
}

}  // namespace
}  // namespace forerun
