#pragma once

#include <string>

#include "engine/engine.h"
#include "text/stream.h"
#include "text/tokenizer.h"

namespace forerun {

void check_request(const GenerateOptions& options);  // Error(kBadArgument)

// Turns emitted tokens into streamed text and knows when the request is over. Keeps references to
// all three arguments. Error(kBadArgument) for a wrong stop string.
class Emitter {
 public:
  Emitter(const Tokenizer& tokenizer, const GenerateOptions& options, Completion& out)
      : tokenizer_(tokenizer), options_(options), stops_(options.stop), out_(out) {}

  bool done() const { return !out_.finish_reason.empty(); }
  void finish(const char* reason) {
    if (!done()) out_.finish_reason = reason;
  }
  int32_t left() const { return options_.max_tokens - static_cast<int32_t>(out_.tokens.size()); }

  // Takes the tokens of a step up to the one that ends the request; the others are dropped.
  void take(const StepResult& step);
  void flush();  // the text that was held back
  void show(const std::string& piece);

 private:
  const Tokenizer& tokenizer_;
  const GenerateOptions& options_;
  Utf8Stream utf8_;
  StopMatcher stops_;
  Completion& out_;
};

}  // namespace forerun
