#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/layer_groups.h"

namespace forerun {

// Which layers of a model draft, and after which of them a node may stop.
struct ExitPlan {
  std::vector<int32_t> layers;  // ascending; the others are skipped
  std::vector<int32_t> exits;   // how many of `layers` are run to an exit, ascending; the last: all
  double confidence = 0.6;      // a node whose likeliest token is below it goes on to the next exit
  // Layers whose attention is computed side by side for guesses; the text is read exactly.
  std::vector<LayerGroup> groups = {};

  bool nested() const { return exits.size() > 1; }
  bool exact() const { return groups.empty(); }  // the rows of guesses are those of text
  std::span<const int32_t> to_first_exit() const {
    return std::span(layers).first(static_cast<size_t>(exits.front()));
  }

  // skip: "" (none) or "8-13,16"; exits: "" (after the last layer that is kept) or "6,9,12", layers
  // of the target. `layers`: the target's. Error(kBadArgument) saying what is wrong.
  static ExitPlan parse(const std::string& skip, const std::string& exits, double confidence,
                        int32_t layers);
  // No layer is skipped up to the last exit. exits: ascending; empty: after all `layers`.
  static ExitPlan after(std::vector<int32_t> exits, double confidence, int32_t layers);
};

}  // namespace forerun
