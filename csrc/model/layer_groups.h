#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace forerun {

// Consecutive layers [first, last) whose attention reads the stream that enters the first of them,
// so that it can be computed side by side; their feed-forward halves follow one after another, each
// with the attention of its layer added before it. An approximation good enough for drafts
// (EasySpec, NeurIPS 2025): what a layer's attention misses is what the layers of the group before
// it add.
struct LayerGroup {
  int32_t first = 0, last = 0;
  bool operator==(const LayerGroup&) const = default;
};

// "4": groups of four layers, the first and the last layer of the model in none (of what remains
// at the end, a smaller one); "1-4,5-8": these; "": none. Groups of one layer are left out, since
// they change nothing. `layers`: the model's. Error(kBadArgument) for groups that do not rise or
// hold layers the model lacks, naming `option`.
std::vector<LayerGroup> parse_layer_groups(const std::string& text, int32_t layers,
                                           const std::string& option);

int32_t largest_group(std::span<const LayerGroup> groups);  // in layers, 1 where there is none

}  // namespace forerun
