#pragma once

#include <cstdint>
#include <string>

#include "model/config.h"
#include "model/fields.h"

namespace forerun {

// The target that a file trained for one says it was made for: `target.width`, `.layers`, `.vocab`
// and, where the writer knew it, `.tokenizer`.
struct MadeFor {
  int32_t width = 0, layers = 0, vocab = 0;
  std::string tokenizer;  // its fingerprint in hex; empty: not known

  // Error(kBadFile) naming the field.
  static MadeFor read(const Fields& fields);
  // Why it cannot serve this target; empty when it can. fingerprint: of its tokenizer.
  std::string misfit(const ModelConfig& target, uint64_t fingerprint) const;
};

}  // namespace forerun
