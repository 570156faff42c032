#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/checkpoint.h"
#include "model/block.h"
#include "model/config.h"

namespace forerun {

// How a draft head makes its first hidden state of a token and of the target's hidden state before
// it; docs/formats.md has the formulas.
enum class HeadFamily {
  kDgf,     // dynamic gating fusion of Dovetail, arXiv 2412.18934
  kEagle,   // EAGLE and EAGLE-2, arXiv 2401.15077 and 2406.16858
  kEagle3,  // arXiv 2503.01840
};

// What a draft file says of the draft and of the target that it was made for.
struct HeadConfig {
  HeadFamily family = HeadFamily::kDgf;
  int32_t blocks = 0;
  BlockShape shape;  // of each block
  RopeConfig rope;
  std::vector<int32_t> taps;  // of the target (model/model.h)
  bool norm_before_residual = false;
  int32_t target_width = 0, target_layers = 0, target_vocab = 0;
  std::string target_tokenizer;  // its fingerprint in hex; empty: not known
  std::vector<int32_t> tokens;   // [columns] of the target, ascending; empty: all
  int32_t columns = 0;           // of the logits
  bool own_head = false;

  int32_t features() const {  // values of a row of the target's hidden states
    return static_cast<int32_t>(taps.size()) * target_width;
  }
};

// Reads and checks a draft file. Error(kBadFile) naming the field or tensor that is missing or out
// of range, Error(kUnsupported) for a family or a version that this build does not know.
FORERUN_API HeadConfig read_head_config(const Checkpoint& file);

// Why a draft cannot draft for this target; empty when it can. fingerprint: of its tokenizer.
std::string head_misfit(const HeadConfig& head, const ModelConfig& target, uint64_t fingerprint);

}  // namespace forerun
