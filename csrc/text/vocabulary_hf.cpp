#include <algorithm>

#include "base/error.h"
#include "io/file_error.h"
#include "io/json.h"
#include "text/hf_pipeline.h"
#include "text/json_fields.h"
#include "text/vocabulary.h"

namespace forerun {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 24;

bool is_byte_token(std::string_view text) {
  return text.size() == 6 && text.starts_with("<0x") && text[5] == '>' &&
         std::isxdigit(static_cast<uint8_t>(text[3])) &&
         std::isxdigit(static_cast<uint8_t>(text[4]));
}

// tokenizer.json describes the algorithm, tokenizer_config.json names the special tokens and holds
// the chat template, config.json and generation_config.json may list more end tokens.
class Reader {
 public:
  explicit Reader(const Checkpoint& checkpoint)
      : checkpoint_(checkpoint),
        tokenizer_json_(parse("tokenizer.json")),
        config_json_(parse("tokenizer_config.json")),
        generation_json_(parse("generation_config.json")),
        tokenizer_(&tokenizer_json_, "tokenizer.json:"),
        config_(&config_json_, "tokenizer_config.json:") {}

  Vocabulary read() {
    if (tokenizer_json_.is_null()) {
      throw Error(ErrorKind::kUnsupported,
                  "tokenizer.json is missing; other tokenizer files are not read");
    }
    const JsonField model = tokenizer_["model"];
    check_model(model);
    read_hf_pipeline(tokenizer_, vocabulary_);
    read_tokens(model["vocab"]);
    read_merges(model["merges"]);
    if (const std::string unknown = model["unk_token"].text(""); !unknown.empty()) {
      vocabulary_.unknown = token(model["unk_token"], unknown);
    }
    vocabulary_.ignore_merges = model["ignore_merges"].boolean(false);
    if (vocabulary_.ignore_merges && vocabulary_.style == Vocabulary::Style::kSentencePiece) {
      throw Error(ErrorKind::kUnsupported,
                  model["ignore_merges"].path() + ": is true, which needs the byte-level alphabet");
    }
    vocabulary_.fuse_unknown = model["fuse_unk"].boolean(false);
    read_special_ids();
    read_post_processor(tokenizer_["post_processor"]);
    read_explicit_flags();
    vocabulary_.chat_template = chat_template();
    return std::move(vocabulary_);
  }

 private:
  Json parse(const std::string& name) const {
    const std::string& contents = checkpoint_.side_file(name);
    return contents.empty() ? Json() : parse_json(contents, name);
  }

  static void check_model(const JsonField& model) {
    const auto refuse = [&](const std::string& what) {
      throw Error(ErrorKind::kUnsupported, model.path() + ": " + what + " is not supported");
    };
    // Files older than the field hold BPE when they have merges.
    const std::string type = model["type"].text(model["merges"].present() ? "BPE" : "");
    if (type != "BPE") refuse("type " + in_quotes(type));
    for (const std::string_view name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!model[name].text("").empty()) refuse(std::string(name));
    }
    const JsonField dropout = model["dropout"];  // encodes at random
    if (dropout.present() && dropout.value() != 0.0) refuse("dropout");
  }

  // The id of a token that a field names by its text.
  int32_t token(const JsonField& field, const std::string& text) const {
    const int32_t id = vocabulary_.find(text);
    if (id < 0) {
      throw Error(ErrorKind::kBadFile,
                  field.path() + ": token " + in_quotes(text) + " is not in the vocabulary");
    }
    return id;
  }

  void place(int64_t id, const std::string& text, TokenKind kind, const JsonField& field) {
    auto& tokens = vocabulary_.tokens;
    if (id < 0 || id >= limit_) {
      throw Error(ErrorKind::kBadFile, field.path() + ": id of " + in_quotes(text) + " is " +
                                           std::to_string(id) + ", expected 0.." +
                                           std::to_string(limit_) + " exclusive");
    }
    const auto row = static_cast<size_t>(id);
    if (row >= tokens.size()) {
      tokens.resize(row + 1);
      vocabulary_.kinds.resize(row + 1, TokenKind::kUnused);
    }
    if (!tokens[row].empty() && tokens[row] != text) {
      throw Error(ErrorKind::kBadFile, field.path() + ": id " + std::to_string(id) +
                                           " stands for both " + in_quotes(tokens[row]) + " and " +
                                           in_quotes(text));
    }
    tokens[row] = text;
    vocabulary_.kinds[row] = kind;
  }

  void read_tokens(const JsonField& vocab) {
    if (!vocab.present() || !vocab.value().is_object()) vocab.bad("an object of tokens and ids");
    const JsonField added = tokenizer_["added_tokens"];
    // Ids may have gaps, but not more gaps than tokens.
    const auto count = static_cast<int64_t>(vocab.value().size() + added.size());
    limit_ = std::min(kMaxTokens, 2 * count + 65536);
    vocabulary_.tokens.reserve(static_cast<size_t>(count));
    const bool bytes = vocabulary_.style == Vocabulary::Style::kSentencePiece &&
                       tokenizer_["model"]["byte_fallback"].boolean(false);
    for (const auto& [text, id] : vocab.value().items()) {
      const TokenKind kind = bytes && is_byte_token(text) ? TokenKind::kByte : TokenKind::kNormal;
      place(JsonField(&id, vocab.path()).integer(), text, kind, vocab);
    }
    for (size_t i = 0; i < added.size(); ++i) read_added_token(added.at(i));
    const int64_t rows = checkpoint_.integer("vocab_size", 0);
    if (rows > limit_ + kMaxTokens / 64) {
      throw Error(ErrorKind::kBadFile, "config.json: vocab_size is " + std::to_string(rows) +
                                           ", but tokenizer.json has " + std::to_string(count) +
                                           " tokens");
    }
    if (rows > static_cast<int64_t>(vocabulary_.tokens.size())) {
      vocabulary_.tokens.resize(static_cast<size_t>(rows));
      vocabulary_.kinds.resize(static_cast<size_t>(rows), TokenKind::kUnused);
    }
    if (vocabulary_.tokens.empty()) vocab.bad("at least one token");
    vocabulary_.index_tokens("tokenizer.json: model.vocab and added_tokens");
  }

  void read_added_token(const JsonField& entry) {
    const std::string& text = entry["content"].text();
    if (text.empty()) entry["content"].bad("at least one character");
    if (entry["single_word"].boolean(false)) {
      throw Error(ErrorKind::kUnsupported, entry.path() + ": single_word is not supported");
    }
    const int64_t id = entry["id"].integer();
    const TokenKind kind =
        entry["special"].boolean(false) ? TokenKind::kControl : TokenKind::kUserDefined;
    place(id, text, kind, entry);
    const int strip = (entry["lstrip"].boolean(false) ? Vocabulary::kStripLeft : 0) |
                      (entry["rstrip"].boolean(false) ? Vocabulary::kStripRight : 0);
    if (strip != 0) vocabulary_.strip[static_cast<int32_t>(id)] = static_cast<uint8_t>(strip);
  }

  void read_merges(const JsonField& merges) {
    if (!merges.present()) merges.bad("an array of merges");
    vocabulary_.merges.reserve(merges.size());
    const Json& list = merges.value();
    for (size_t i = 0; i < list.size(); ++i) {
      const Json& merge = list[i];
      if (merge.is_string()) {
        vocabulary_.add_merge(merge.get_ref<const std::string&>(), merges.path());
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
                 merge[1].is_string()) {
        vocabulary_.add_merge(merge[0].get_ref<const std::string&>(),
                              merge[1].get_ref<const std::string&>(), merges.path());
      } else {
        merges.at(i).bad("\"left right\" or [\"left\", \"right\"]");
      }
    }
  }

  // Ids under a key of config.json or generation_config.json: one number or a list.
  void add_ends(const MetaValue* value, const std::string& field) {
    if (value == nullptr) return;
    const auto add = [&](int64_t id) {
      vocabulary_.ends.push_back(vocabulary_.checked_id(id, field));
    };
    const auto add_unsigned = [&](uint64_t id) {
      add(static_cast<int64_t>(std::min<uint64_t>(id, INT64_MAX)));
    };
    if (const auto* signed_id = std::get_if<int64_t>(value)) {
      add(*signed_id);
    } else if (const auto* id = std::get_if<uint64_t>(value)) {
      add_unsigned(*id);
    } else if (const auto* signed_ids = std::get_if<std::vector<int64_t>>(value)) {
      std::for_each(signed_ids->begin(), signed_ids->end(), add);
    } else if (const auto* ids = std::get_if<std::vector<uint64_t>>(value)) {
      std::for_each(ids->begin(), ids->end(), add_unsigned);
    } else {
      throw Error(ErrorKind::kBadFile, field + ": expected a token id or a list of them");
    }
  }

  void read_special_ids() {
    const auto named = [this](std::string_view key) {
      const std::string text = config_[key].token_text();
      return text.empty() ? -1 : token(config_[key], text);
    };
    vocabulary_.bos = named("bos_token");
    vocabulary_.eos = named("eos_token");
    add_ends(checkpoint_.find("eos_token_id"), "config.json: eos_token_id");
    const JsonField generation(&generation_json_, "generation_config.json:");
    const JsonField ends = generation["eos_token_id"];
    if (ends.present() && ends.value().is_array()) {
      for (size_t i = 0; i < ends.size(); ++i) {
        vocabulary_.ends.push_back(vocabulary_.checked_id(ends.at(i).integer(), ends.at(i).path()));
      }
    } else if (ends.present()) {
      vocabulary_.ends.push_back(vocabulary_.checked_id(ends.integer(), ends.path()));
    }
    if (vocabulary_.eos < 0 && !vocabulary_.ends.empty())
      vocabulary_.eos = vocabulary_.ends.front();
  }

  void read_post_processor(const JsonField& processor) {
    if (!processor.present()) return;
    const std::string& type = processor["type"].text();
    if (type == "Sequence") {
      const JsonField members = processor["processors"];
      for (size_t i = 0; i < members.size(); ++i) {
        if (members.at(i).present() && members.at(i)["type"].text() == "Sequence")
          members.at(i).bad("no nested Sequence");
        read_post_processor(members.at(i));
      }
    } else if (type == "TemplateProcessing") {
      read_template(processor["single"]);
    } else if (type != "ByteLevel") {  // ByteLevel only changes offsets
      throw Error(ErrorKind::kUnsupported,
                  processor.path() + ": type " + in_quotes(type) + " is not supported");
    }
  }

  // [BOS] A [EOS], each of the two optional.
  void read_template(const JsonField& single) {
    bool after_text = false;
    for (size_t i = 0; i < single.size(); ++i) {
      const JsonField part = single.at(i);
      if (part["Sequence"].present()) {
        if (after_text) part.bad("one Sequence");
        after_text = true;
        continue;
      }
      const JsonField name = part["SpecialToken"]["id"];
      const int32_t id = token(name, name.text());
      bool& adds = after_text ? vocabulary_.add_eos : vocabulary_.add_bos;
      if (adds) {
        throw Error(ErrorKind::kUnsupported,
                    part.path() + ": several special tokens on one side are not supported");
      }
      adds = true;
      (after_text ? vocabulary_.eos : vocabulary_.bos) = id;
    }
  }

  void read_explicit_flags() {
    const auto read = [this](std::string_view key, int32_t token, bool& flag) {
      flag = config_[key].boolean(flag);
      if (flag && token < 0) config_[key].bad("false, as the file names no such token");
    };
    read("add_bos_token", vocabulary_.bos, vocabulary_.add_bos);
    read("add_eos_token", vocabulary_.eos, vocabulary_.add_eos);
  }

  std::string chat_template() const {
    if (const std::string& file = checkpoint_.side_file("chat_template.jinja"); !file.empty())
      return file;
    const JsonField field = config_["chat_template"];
    if (!field.present() || !field.value().is_array()) return field.text("");
    for (size_t i = 0; i < field.size(); ++i) {
      if (field.at(i)["name"].text() == "default") return field.at(i)["template"].text();
    }
    return {};
  }

  const Checkpoint& checkpoint_;
  const Json tokenizer_json_, config_json_, generation_json_;
  const JsonField tokenizer_, config_;
  int64_t limit_ = 0;
  Vocabulary vocabulary_;
};

}  // namespace

Vocabulary read_hf_vocabulary(const Checkpoint& checkpoint) { return Reader(checkpoint).read(); }

}  // namespace forerun
