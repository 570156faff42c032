#include "text/special_matcher.h"

namespace forerun {

void SpecialMatcher::add(std::string_view text, int32_t token, bool always) {
  if (text.empty()) return;
  begins_[static_cast<uint8_t>(text[0])] = true;
  size_t node = 0;
  for (const char byte : text) {
    const auto [it, inserted] = edges_.try_emplace(edge(node, byte), nodes_.size());
    if (inserted) nodes_.push_back({});
    node = it->second;
  }
  if (nodes_[node].token < 0) nodes_[node] = {token, always};
}

SpecialMatcher::Match SpecialMatcher::find(std::string_view text, size_t from,
                                           bool parse_special) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!begins_[static_cast<uint8_t>(text[begin])]) continue;
    Match match{begin, begin, -1};
    size_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      const auto it = edges_.find(edge(node, text[at]));
      if (it == edges_.end()) break;
      node = it->second;
      if (nodes_[node].token >= 0 && (parse_special || nodes_[node].always)) {
        match = {begin, at + 1, nodes_[node].token};
      }
    }
    if (match.token >= 0) return match;
  }
  return {text.size(), text.size(), -1};
}

}  // namespace forerun
