#include "text/hf_pipeline.h"

#include <array>

#include "base/error.h"
#include "io/file_error.h"

namespace forerun {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581
constexpr std::string_view kDigitRule = R"(\p{N})";

struct KnownRegex {
  std::string_view text;
  PreTokenizer rule;
};
constexpr std::array kRegexes = {
    KnownRegex{R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
               PreTokenizer::kGpt2},
    KnownRegex{R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
               PreTokenizer::kGpt2},
    KnownRegex{
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
        PreTokenizer::kLlamaBpe},
    KnownRegex{
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
        PreTokenizer::kQwen2},
};

[[noreturn]] void unsupported(const JsonField& field, const std::string& what) {
  throw Error(ErrorKind::kUnsupported, field.path() + ": " + what + " is not supported");
}

// The steps of a component: the members of a Sequence, or the component itself.
std::vector<JsonField> steps_of(const JsonField& component, std::string_view list) {
  if (!component.present()) return {};
  if (component["type"].text() != "Sequence") return {component};
  std::vector<JsonField> steps;
  const JsonField members = component[list];
  for (size_t i = 0; i < members.size(); ++i) steps.push_back(members.at(i));
  return steps;
}

void read_normalizer(const JsonField& step, Vocabulary& vocabulary, bool& sentencepiece) {
  const std::string& type = step["type"].text();
  if (type == "NFC") {
    vocabulary.nfc = true;
  } else if (type == "Prepend") {
    if (step["prepend"].text() != kSpaceMark)
      unsupported(step, "Prepend of " + in_quotes(step["prepend"].text()));
    vocabulary.space_prefix = SpacePrefix::kAfterSpecial;
    sentencepiece = true;
  } else if (type == "Replace") {
    const bool spaces =
        step["pattern"]["String"].text("") == " " && step["content"].text() == kSpaceMark;
    if (!spaces) unsupported(step, "Replace of anything but a space by U+2581");
    sentencepiece = true;
  } else {
    unsupported(step, "normalizer " + in_quotes(type));
  }
}

void read_metaspace(const JsonField& step, Vocabulary& vocabulary) {
  if (step["replacement"].text(kSpaceMark) != kSpaceMark)
    unsupported(step, "Metaspace with another mark");
  const bool old_flag = step["add_prefix_space"].boolean(true);
  const std::string scheme = step["prepend_scheme"].text(old_flag ? "always" : "never");
  if (scheme == "always") {
    vocabulary.space_prefix = SpacePrefix::kAfterSpecial;
  } else if (scheme == "first") {
    vocabulary.space_prefix = SpacePrefix::kFirst;
  } else if (scheme == "never") {
    vocabulary.space_prefix = SpacePrefix::kNever;
  } else {
    step["prepend_scheme"].bad("always, first or never");
  }
  vocabulary.prefix_unless_space = true;
  vocabulary.split_words = step["split"].boolean(true);
}

PreTokenizer known_regex(const JsonField& step) {
  const std::string regex = step["pattern"]["Regex"].text("");
  const std::string behavior = step["behavior"].text();
  const bool tiles = (behavior == "Isolated" && !step["invert"].boolean(false)) ||
                     (behavior == "Removed" && step["invert"].boolean(false));
  for (const KnownRegex& known : kRegexes) {
    if (tiles && known.text == regex) return known.rule;
  }
  unsupported(step, "Split with pattern " + in_quotes(regex) + ", behavior " + in_quotes(behavior));
}

bool isolates_digits(const JsonField& step) {
  const std::string& type = step["type"].text();
  if (type == "Digits") return step["individual_digits"].boolean(false);
  return type == "Split" && step["pattern"]["Regex"].text("") == kDigitRule &&
         step["behavior"].text() == "Isolated";
}

void read_byte_level(const std::vector<JsonField>& steps, Vocabulary& vocabulary) {
  const JsonField& last = steps.back();
  const bool gpt2 = last["use_regex"].boolean(true);
  if (last["add_prefix_space"].boolean(true)) {
    if (steps.size() > 1) unsupported(last, "add_prefix_space after another step");
    vocabulary.space_prefix = SpacePrefix::kAfterSpecial;
  }
  if (steps.size() == 1 && gpt2) {
    vocabulary.pre_tokenizer = PreTokenizer::kGpt2;
  } else if (steps.size() == 2 && gpt2 && isolates_digits(steps[0])) {
    vocabulary.pre_tokenizer = PreTokenizer::kSmollm;
  } else if (steps.size() == 2 && !gpt2 && steps[0]["type"].text() == "Split") {
    vocabulary.pre_tokenizer = known_regex(steps[0]);
  } else {
    unsupported(last, "this combination of steps before ByteLevel");
  }
}

}  // namespace

void read_hf_pipeline(const JsonField& tokenizer, Vocabulary& vocabulary) {
  bool sentencepiece = false;
  for (const JsonField& step : steps_of(tokenizer["normalizer"], "normalizers")) {
    read_normalizer(step, vocabulary, sentencepiece);
  }
  const JsonField pre_tokenizer = tokenizer["pre_tokenizer"];
  const std::vector<JsonField> steps = steps_of(pre_tokenizer, "pretokenizers");
  if (!steps.empty() && steps.back()["type"].text() == "ByteLevel") {
    if (sentencepiece)
      unsupported(tokenizer["normalizer"], "a normalizer of SentencePiece before ByteLevel");
    vocabulary.style = Vocabulary::Style::kByteLevel;
    read_byte_level(steps, vocabulary);
    return;
  }
  vocabulary.style = Vocabulary::Style::kSentencePiece;
  if (vocabulary.nfc) unsupported(tokenizer["normalizer"], "NFC without ByteLevel");
  if (steps.size() == 1 && steps[0]["type"].text() == "Metaspace" && !sentencepiece) {
    read_metaspace(steps[0], vocabulary);
  } else if (!steps.empty()) {
    unsupported(pre_tokenizer, "pre-tokenizer " + in_quotes(steps[0]["type"].text()));
  } else if (!sentencepiece) {
    unsupported(tokenizer["pre_tokenizer"],
                "neither ByteLevel nor Metaspace nor a normalizer for spaces: this model");
  }
}

}  // namespace forerun
