#include "model/layer_groups.h"

#include <algorithm>

#include "base/error.h"
#include "base/parse_count.h"

namespace forerun {
std::vector<LayerGroup> parse_layer_groups(const std::string& text, int32_t layers,
                                           const std::string& option) {
  const auto refuse = [&](const std::string& expected) {
    throw Error(ErrorKind::kBadArgument, option + " is '" + text + "', expected " + expected +
                                             ", of a model of " + std::to_string(layers) +
                                             " layers");
  };
  std::vector<LayerGroup> groups;
  if (text.empty()) return groups;
  if (text.find_first_not_of("0123456789") == std::string::npos) {
    const int32_t size = parse_count(text);
    if (size < 1) refuse("layers in a group, from 1 on");
    for (int64_t first = 1; first + 1 < layers; first += size) {
      const auto last = static_cast<int32_t>(std::min<int64_t>(first + size, layers - 1));
      groups.push_back({static_cast<int32_t>(first), last});
    }
  } else {
    int32_t next = 0;
    for (size_t at = 0; at <= text.size();) {
      const size_t end = std::min(text.find(',', at), text.size());
      const std::string part = text.substr(at, end - at);
      const size_t dash = std::min(part.find('-'), part.size());
      const int32_t first = parse_count(part.substr(0, dash));
      const int32_t last = dash == part.size() ? first : parse_count(part.substr(dash + 1));
      if (first < next || last < first || last >= layers) {
        refuse("a number, or groups that rise such as 1-4,5-8");
      }
      groups.push_back({first, last + 1});
      next = last + 1;
      at = end + 1;
    }
  }
  std::erase_if(groups, [](const LayerGroup& group) { return group.last - group.first == 1; });
  return groups;
}

int32_t largest_group(std::span<const LayerGroup> groups) {
  int32_t most = 1;
  for (const LayerGroup& group : groups) most = std::max(most, group.last - group.first);
  return most;
}

}  // namespace forerun
