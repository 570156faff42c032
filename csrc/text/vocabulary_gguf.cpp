#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "io/file_error.h"
#include "text/vocabulary.h"

namespace forerun {
namespace {

const std::string kPrefix = "tokenizer.ggml.";

struct NamedRule {
  std::string_view name;
  PreTokenizer rule;
  bool ignore_merges, add_bos;
};
// The names of tokenizer.ggml.pre whose splitting is one of ours, with the defaults that go with
// them.
constexpr std::array kRules = {
    NamedRule{"gpt-2", PreTokenizer::kGpt2, false, false},
    NamedRule{"mpt", PreTokenizer::kGpt2, false, false},
    NamedRule{"olmo", PreTokenizer::kGpt2, false, false},
    NamedRule{"phi-2", PreTokenizer::kGpt2, false, false},
    NamedRule{"exaone4", PreTokenizer::kGpt2, false, false},
    NamedRule{"smollm", PreTokenizer::kSmollm, false, false},
    NamedRule{"starcoder", PreTokenizer::kSmollm, false, false},
    NamedRule{"refact", PreTokenizer::kSmollm, false, false},
    NamedRule{"command-r", PreTokenizer::kSmollm, false, false},
    NamedRule{"codeshell", PreTokenizer::kSmollm, false, false},
    NamedRule{"exaone", PreTokenizer::kSmollm, false, false},
    NamedRule{"minerva-7b", PreTokenizer::kSmollm, false, false},
    NamedRule{"llama-bpe", PreTokenizer::kLlamaBpe, true, true},
    NamedRule{"llama3", PreTokenizer::kLlamaBpe, true, true},
    NamedRule{"llama-v3", PreTokenizer::kLlamaBpe, true, true},
    NamedRule{"falcon3", PreTokenizer::kLlamaBpe, true, true},
    NamedRule{"pixtral", PreTokenizer::kLlamaBpe, true, true},
    NamedRule{"lfm2", PreTokenizer::kLlamaBpe, true, true},
    NamedRule{"dbrx", PreTokenizer::kLlamaBpe, false, false},
    NamedRule{"smaug-bpe", PreTokenizer::kLlamaBpe, false, false},
    NamedRule{"qwen2", PreTokenizer::kQwen2, false, false},
    NamedRule{"deepseek-r1-qwen", PreTokenizer::kQwen2, false, false},
    NamedRule{"stablelm2", PreTokenizer::kQwen2, false, false},
    NamedRule{"hunyuan", PreTokenizer::kQwen2, false, false},
    NamedRule{"megrez", PreTokenizer::kQwen2, false, false},
};

class Reader {
 public:
  explicit Reader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  Vocabulary read() {
    const std::string& model = checkpoint_.text(kPrefix + "model");
    if (model != "gpt2" && model != "llama") {
      throw Error(ErrorKind::kUnsupported,
                  kPrefix + "model is " + in_quotes(model) + ", supported are 'gpt2' and 'llama'");
    }
    vocabulary_.style =
        model == "gpt2" ? Vocabulary::Style::kByteLevel : Vocabulary::Style::kSentencePiece;
    read_tokens();
    if (model == "gpt2") {
      read_byte_level();
    } else {
      read_sentencepiece();
    }
    read_ids(model == "llama");
    pad();
    vocabulary_.chat_template = checkpoint_.text("tokenizer.chat_template", "");
    return std::move(vocabulary_);
  }

 private:
  [[noreturn]] void bad(std::string_view name, const std::string& text) const {
    throw Error(ErrorKind::kBadFile, kPrefix + std::string(name) + ": " + text);
  }

  void check_count(std::string_view name, size_t count) const {
    if (count != vocabulary_.tokens.size()) {
      bad(name, "has " + std::to_string(count) + " entries, expected one per token: " +
                    std::to_string(vocabulary_.tokens.size()));
    }
  }

  // An array of numbers of any width as T; `found` false when the key is absent.
  template <typename T>
  std::vector<T> numbers(std::string_view name, bool& found) const {
    const MetaValue* value = checkpoint_.find(kPrefix + std::string(name));
    found = value != nullptr;
    std::vector<T> out;
    if (!found) return out;
    const auto convert = [&out](const auto& list) { out.assign(list.begin(), list.end()); };
    if (const auto* list = std::get_if<std::vector<int64_t>>(value)) {
      convert(*list);
    } else if (const auto* counts = std::get_if<std::vector<uint64_t>>(value)) {
      convert(*counts);
    } else if (const auto* reals = std::get_if<std::vector<double>>(value);
               reals != nullptr && std::is_floating_point_v<T>) {
      convert(*reals);
    } else {
      bad(name, "expected an array of numbers");
    }
    return out;
  }

  // Rows of the model beyond the list stand for nothing, but may be chosen.
  void pad() {
    const TensorSource* rows = checkpoint_.find_tensor("token_embd.weight");
    if (rows == nullptr || rows->shape.size() != 2) return;
    const auto count = static_cast<size_t>(rows->shape[0]);
    if (count <= vocabulary_.tokens.size() || count > kMaxTokens) return;
    vocabulary_.tokens.resize(count);
    vocabulary_.kinds.resize(count, TokenKind::kUnused);
    if (!vocabulary_.scores.empty()) vocabulary_.scores.resize(count);
    vocabulary_.index_tokens(kPrefix + "tokens");  // the texts have moved
  }

  void read_tokens() {
    const std::vector<std::string>* tokens = checkpoint_.texts(kPrefix + "tokens");
    if (tokens == nullptr || tokens->empty())
      bad("tokens", "missing or empty, expected the list of tokens");
    if (tokens->size() > kMaxTokens)
      bad("tokens", "has " + std::to_string(tokens->size()) + " entries");
    vocabulary_.tokens = *tokens;
    vocabulary_.kinds.assign(tokens->size(), TokenKind::kNormal);
    bool found = false;
    const std::vector<int64_t> types = numbers<int64_t>("token_type", found);
    if (found) check_count("token_type", types.size());
    for (size_t id = 0; id < types.size(); ++id) {
      // llama.cpp's enumeration: 0 undefined, 1 normal, 2 unknown, 3 control, 4 user-defined, 5
      // unused, 6 byte
      if (types[id] < 0 || types[id] > 6) {
        bad("token_type",
            "entry " + std::to_string(id) + " is " + std::to_string(types[id]) + ", expected 0..6");
      }
      constexpr std::array kKinds = {
          TokenKind::kNormal,      TokenKind::kNormal, TokenKind::kUnknown, TokenKind::kControl,
          TokenKind::kUserDefined, TokenKind::kUnused, TokenKind::kByte};
      vocabulary_.kinds[id] = kKinds[static_cast<size_t>(types[id])];
    }
    vocabulary_.index_tokens(kPrefix + "tokens");
  }

  void read_byte_level() {
    const std::string name = checkpoint_.text(kPrefix + "pre", "");
    const auto* rule =
        std::find_if(kRules.begin(), kRules.end(), [&](const auto& r) { return r.name == name; });
    if (rule == kRules.end()) {
      throw Error(ErrorKind::kUnsupported,
                  kPrefix + "pre: unknown pre-tokenizer " +
                      (name.empty() ? "(the key is missing)" : in_quotes(name)) +
                      ", supported are gpt-2, llama-bpe, smollm, qwen2 and their synonyms");
    }
    vocabulary_.pre_tokenizer = rule->rule;
    vocabulary_.ignore_merges = rule->ignore_merges;
    vocabulary_.add_bos = rule->add_bos;
    const std::vector<std::string>* merges = checkpoint_.texts(kPrefix + "merges");
    if (merges == nullptr) bad("merges", "missing, expected the list of merges");
    vocabulary_.merges.reserve(merges->size());
    for (const std::string& merge : *merges) vocabulary_.add_merge(merge, kPrefix + "merges");
  }

  void read_sentencepiece() {
    bool found = false;
    vocabulary_.scores = numbers<double>("scores", found);
    if (!found) bad("scores", "missing, expected one number per token");
    check_count("scores", vocabulary_.scores.size());
    for (size_t id = 0; id < vocabulary_.scores.size(); ++id) {
      if (!std::isfinite(vocabulary_.scores[id]))
        bad("scores", "entry " + std::to_string(id) + " is not finite");
    }
    const bool prefix = checkpoint_.boolean(kPrefix + "add_space_prefix", true);
    vocabulary_.space_prefix = prefix ? SpacePrefix::kAfterSpecial : SpacePrefix::kNever;
    vocabulary_.add_bos = true;
  }

  int32_t id(std::string_view name, int32_t fallback) const {
    const std::string key = kPrefix + std::string(name) + "_token_id";
    if (checkpoint_.find(key) != nullptr)
      return vocabulary_.checked_id(checkpoint_.integer(key), key);
    return fallback < static_cast<int32_t>(vocabulary_.tokens.size()) ? fallback : -1;
  }

  void read_ids(bool sentencepiece) {
    vocabulary_.bos = id("bos", sentencepiece ? 1 : -1);
    vocabulary_.eos = id("eos", sentencepiece ? 2 : -1);
    // A byte-level vocabulary spells every byte; its "unknown" id is a left-over of the conversion.
    const int32_t unknown = id("unknown", sentencepiece ? 0 : -1);
    if (sentencepiece) vocabulary_.unknown = unknown;
    for (const std::string_view name : {"eot", "eom", "fim_pad", "fim_rep", "fim_sep"}) {
      if (const int32_t end = id(name, -1); end >= 0) vocabulary_.ends.push_back(end);
    }
    if (vocabulary_.bos < 0) vocabulary_.add_bos = false;
    vocabulary_.add_bos = flag("add_bos_token", vocabulary_.add_bos, vocabulary_.bos);
    vocabulary_.add_eos = flag("add_eos_token", false, vocabulary_.eos);
  }

  bool flag(std::string_view name, bool fallback, int32_t token) const {
    const bool value = checkpoint_.boolean(kPrefix + std::string(name), fallback);
    if (value && token < 0) bad(name, "is true, but the file names no such token");
    return value;
  }

  static constexpr size_t kMaxTokens = size_t{1} << 24;
  const Checkpoint& checkpoint_;
  Vocabulary vocabulary_;
};

}  // namespace

Vocabulary read_gguf_vocabulary(const Checkpoint& checkpoint) { return Reader(checkpoint).read(); }

}  // namespace forerun
