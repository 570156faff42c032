#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/checkpoint.h"
#include "model/block.h"
#include "model/config.h"
#include "model/made_for.h"

namespace forerun {

// How a draft head makes its first hidden state of a token and of the target's hidden state before
// it; docs/formats.md has the formulas.
enum class HeadFamily {
  kDgf,       // dynamic gating fusion of Dovetail, arXiv 2412.18934
  kEagle,     // EAGLE and EAGLE-2, arXiv 2401.15077 and 2406.16858
  kEagle3,    // arXiv 2503.01840
  kKangaroo,  // an adapter behind the target's first layers, arXiv 2404.18911
  kChimera,   // three tokens at a time, which attend to the states of the text, arXiv 2402.15758
  kFalcon,    // several tokens in one forward, arXiv 2412.12639
  // A stack of its own for every depth, all on one state of the target:
  kMedusa,  // arXiv 2401.10774
  kHydra,   // and the tokens between, arXiv 2402.05109; Hydra++ with a block over the text
};

// What a draft file says of the draft and of the target that it was made for.
struct HeadConfig {
  HeadFamily family = HeadFamily::kDgf;
  int32_t blocks = 0;
  BlockShape shape;  // of each block
  RopeConfig rope;
  std::vector<int32_t> taps;  // of the target (model/model.h)
  bool norm_before_residual = false;
  MadeFor target;
  std::vector<int32_t> tokens;  // [columns] of the target, ascending; empty: all
  int32_t columns = 0;          // of the logits
  bool own_head = false;
  int32_t stacks = 0;  // of Medusa and Hydra: depths that they can guess at
  int32_t span = 1;    // tokens that a forward guesses; of Falcon more than one

  int32_t features() const {  // values of a row of the target's hidden states
    return static_cast<int32_t>(taps.size()) * target.width;
  }
  // Values that a row hands to the rows below it: Hydra adds the embedding of every token, Chimera
  // the target's state before the root, Falcon the states that its rows read beside those it made.
  int32_t state_width() const {
    const int32_t parts = family == HeadFamily::kHydra     ? stacks + 1
                          : family == HeadFamily::kChimera ? 2
                                                           : 2 * span - 1;
    return parts * shape.width;
  }
  // Tokens of the text that a row reads, its own and those before it, and states before these.
  int32_t tokens_read() const { return family == HeadFamily::kChimera ? 3 : span; }
  int32_t states_read() const { return span; }
  // Values that are multiplied with the head's rows. A head of Chimera's own reads both parts of
  // the state, the target's the first one.
  int32_t head_inputs() const {
    return family == HeadFamily::kChimera && own_head ? 2 * shape.width : shape.width;
  }
  bool by_depth() const { return stacks > 0; }
  // Layers of the target that have to run over a token before the head can say what follows it:
  // a row is then the state of its own token, not of the one before. 0: all is the head's.
  int32_t exit_layers() const { return family == HeadFamily::kKangaroo ? taps[0] : 0; }
  // Whether what enters the first block is normalised before its attention.
  bool norms_entry() const {
    return by_depth() || exit_layers() > 0 || family == HeadFamily::kChimera;
  }
};

// Reads and checks a draft file. Error(kBadFile) naming the field or tensor that is missing or out
// of range, Error(kUnsupported) for a family or a version that this build does not know.
FORERUN_API HeadConfig read_head_config(const Checkpoint& file);

}  // namespace forerun
