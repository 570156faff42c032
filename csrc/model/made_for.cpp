#include "model/made_for.h"

#include <cstdio>

namespace forerun {

MadeFor MadeFor::read(const Fields& fields) {
  MadeFor found;
  found.width = fields.count("target.width", 1, kMaxWidth);
  found.layers = fields.count("target.layers", 1, kMaxLayers);
  found.vocab = fields.count("target.vocab", 1, 1 << 24);
  found.tokenizer = fields.text("target.tokenizer", "");
  return found;
}

std::string MadeFor::misfit(const ModelConfig& target, uint64_t fingerprint) const {
  const auto differs = [](const char* what, int32_t found, int32_t wanted) {
    return found == wanted ? std::string()
                           : std::string("it was made for a target of ") + std::to_string(found) +
                                 " " + what + ", this one has " + std::to_string(wanted);
  };
  for (const std::string& why :
       {differs("values a hidden state", width, target.width),
        differs("layers", layers, target.layers), differs("tokens", vocab, target.vocab)}) {
    if (!why.empty()) return why;
  }
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(fingerprint));
  if (!tokenizer.empty() && tokenizer != text) {
    return "it was made for a target with another tokenizer";
  }
  return "";
}

}  // namespace forerun
