#pragma once

#include <string>
#include <vector>

#include "text/memory_checkpoint.h"

namespace forerun {

// Vocabularies small enough to work out by hand. Types are GGUF's: 1 normal, 2 unknown, 3 control,
// 4 user-defined, 5 unused, 6 byte.

// Byte-level: 0..25 a..z, 26 space (as U+0120), 27 "ab", 28 "abc", 29 " a", 30 "<|im_end|>", 31
// "<tool>", 32 padding.
inline MemoryCheckpoint tiny_byte_level() {
  std::vector<std::string> tokens;
  for (char c = 'a'; c <= 'z'; ++c) tokens.emplace_back(1, c);
  for (const char* token : {"\xC4\xA0", "ab", "abc",
                            "\xC4\xA0"
                            "a",
                            "<|im_end|>", "<tool>", "[PAD32]"}) {
    tokens.emplace_back(token);
  }
  std::vector<int64_t> types(tokens.size(), 1);
  types[30] = 3;
  types[31] = types[32] = 4;
  MemoryCheckpoint checkpoint(CheckpointFormat::kGguf);
  checkpoint.set("tokenizer.ggml.model", std::string("gpt2"));
  checkpoint.set("tokenizer.ggml.pre", std::string("gpt-2"));
  checkpoint.set("tokenizer.ggml.tokens", tokens);
  checkpoint.set("tokenizer.ggml.token_type", types);
  checkpoint.set("tokenizer.ggml.merges", std::vector<std::string>{"a b", "ab c", "\xC4\xA0 a"});
  checkpoint.set("tokenizer.ggml.bos_token_id", uint64_t{30});
  checkpoint.set("tokenizer.ggml.eos_token_id", uint64_t{30});
  checkpoint.set("tokenizer.chat_template", std::string("{{ x }}"));
  return checkpoint;
}

// SentencePiece: 0 <unk>, 1 <s>, 2 </s>, 3 <0x41>, 4 <0xC3>, 5 U+2581, 6 a, 7 b, 8 "ab", 9 U+2581
// "a", 10 "bx" (x alone is no token), 11 "[T]" user-defined, 12 "aa".
inline MemoryCheckpoint tiny_sentencepiece() {
  const std::string mark = "\xE2\x96\x81";
  MemoryCheckpoint checkpoint(CheckpointFormat::kGguf);
  checkpoint.set("tokenizer.ggml.model", std::string("llama"));
  checkpoint.set("tokenizer.ggml.tokens",
                 std::vector<std::string>{"<unk>", "<s>", "</s>", "<0x41>", "<0xC3>", mark, "a",
                                          "b", "ab", mark + "a", "bx", "[T]", "aa"});
  checkpoint.set("tokenizer.ggml.token_type",
                 std::vector<int64_t>{2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1, 4, 1});
  checkpoint.set("tokenizer.ggml.scores",
                 std::vector<double>{0, 0, 0, 0, 0, -9, -9, -9, -1, -2, -3, 0, -4});
  return checkpoint;
}

inline constexpr const char* kTinyJson = R"({
  "added_tokens": [{"id": 5, "content": "</s>", "special": true}, {"id": 6, "content": "<t>", "special": false}],
  "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
  "post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "</s>"}}]},
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3, "abc": 4}, "merges": ["a b", ["ab", "c"]]}
})";

inline MemoryCheckpoint tiny_folder(const std::string& tokenizer_json = kTinyJson) {
  MemoryCheckpoint checkpoint(CheckpointFormat::kHuggingFace);
  checkpoint.set_file("tokenizer.json", tokenizer_json);
  return checkpoint;
}

}  // namespace forerun
