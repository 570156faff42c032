#include "text/vocabulary.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "io/file_error.h"
#include "text/special_matcher.h"

namespace forerun {
namespace {

// Names that end a turn or a text in the vocabularies of published models (the list of llama.cpp,
// MIT licence).
constexpr std::array<std::string_view, 16> kEndNames = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<end_of_utterance>",
    "<\xEF\xBD\x9C"
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",  // DeepSeek's full-width bars
};
// These could be ordinary text, so they count only where the vocabulary says that they are special.
constexpr std::array<std::string_view, 15> kEndNamesIfSpecial = {
    "</s>",  "<EOT>",   "_<EOT>",           "[EOT]",      "[EOS]",
    "<eos>", "<turn|>", "<|tool_response>", "<fim-pad>",  "<fim_pad>",
    "<PAD>", "[PAD]",   "<fim-repo>",       "<reponame>", "<REPO>",
};

[[noreturn]] void bad(std::string_view field, const std::string& text) {
  throw Error(ErrorKind::kBadFile, std::string(field) + ": " + text);
}

bool is_special_kind(TokenKind kind) {
  return kind == TokenKind::kControl || kind == TokenKind::kUnknown ||
         kind == TokenKind::kUserDefined;
}

}  // namespace

void Vocabulary::index_tokens(std::string_view field) {
  size_t special_bytes = 0;
  index.clear();
  index.reserve(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id) {
    const std::string& text = tokens[id];
    // Rows that conversion tools add so that the embedding has a round size.
    if (text.starts_with("[PAD") && text == "[PAD" + std::to_string(id) + "]")
      kinds[id] = TokenKind::kUnused;
    if (text.empty()) continue;
    if (is_special_kind(kinds[id]) && text.size() > SpecialMatcher::kMaxSpecialBytes) {
      bad(field, "special token " + std::to_string(id) + " has " + std::to_string(text.size()) +
                     " bytes, expected at most " +
                     std::to_string(SpecialMatcher::kMaxSpecialBytes));
    }
    if (is_special_kind(kinds[id])) special_bytes += text.size();
    const auto [it, inserted] = index.emplace(text, static_cast<int32_t>(id));
    if (!inserted) {
      bad(field, "token " + in_quotes(text) + " stands twice, at " + std::to_string(it->second) +
                     " and " + std::to_string(id));
    }
  }
  if (special_bytes > SpecialMatcher::kMaxBytesOfAll) {
    bad(field, "special tokens have " + std::to_string(special_bytes) +
                   " bytes in all, expected at most " +
                   std::to_string(SpecialMatcher::kMaxBytesOfAll));
  }
}

int32_t Vocabulary::find(std::string_view text) const {
  const auto it = index.find(text);
  return it == index.end() ? -1 : it->second;
}

void Vocabulary::add_merge(std::string_view left, std::string_view right, std::string_view field) {
  const std::string whole = std::string(left) + std::string(right);
  const Merge merge{find(left), find(right), find(whole)};
  for (const auto& [id, text] :
       {std::pair(merge.left, left), {merge.right, right}, {merge.merged, whole}}) {
    if (id < 0) {
      bad(field, "merge " + std::to_string(merges.size()) + " needs " + in_quotes(text) +
                     ", which is not in the vocabulary");
    }
  }
  merges.push_back(merge);
}

void Vocabulary::add_merge(std::string_view pair, std::string_view field) {
  const size_t space = pair.find(' ', 1);
  if (space == std::string_view::npos) {
    bad(field, "merge " + std::to_string(merges.size()) + " is " + in_quotes(pair) +
                   ", expected two tokens with a space between them");
  }
  add_merge(pair.substr(0, space), pair.substr(space + 1), field);
}

int32_t Vocabulary::checked_id(int64_t id, std::string_view field) const {
  if (id < 0 || id >= static_cast<int64_t>(tokens.size())) {
    bad(field, "token id is " + std::to_string(id) + ", expected 0.." +
                   std::to_string(tokens.size()) + " exclusive");
  }
  return static_cast<int32_t>(id);
}

void Vocabulary::collect_ends() {
  if (eos >= 0) ends.push_back(eos);
  const auto add = [this](int32_t id) {
    ends.push_back(id);
    kinds[id] = TokenKind::kControl;
  };
  for (const std::string_view name : kEndNames) {
    if (const int32_t id = find(name); id >= 0) add(id);
  }
  for (const std::string_view name : kEndNamesIfSpecial) {
    if (const int32_t id = find(name); id >= 0 && is_special_kind(kinds[id])) add(id);
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  // In these dialects <|end|> closes a message in the middle of a turn.
  const auto ends_with = [this](std::string_view name) {
    return std::binary_search(ends.begin(), ends.end(), find(name));
  };
  const bool harmony = ends_with("<|return|>") && ends_with("<|call|>");
  const bool solar = ends_with("<|flush|>") && ends_with("<|calls|>");
  if ((harmony || solar) && find("<|end|>") != eos) std::erase(ends, find("<|end|>"));
}

}  // namespace forerun
