#include "engine/emitter.h"

namespace forerun {

void check_request(const GenerateOptions& options) {
  if (options.max_tokens < 0) {
    throw Error(ErrorKind::kBadArgument,
                "max_tokens is " + std::to_string(options.max_tokens) + ", expected >= 0");
  }
  if (options.logprobs > 1000) {
    throw Error(ErrorKind::kBadArgument,
                "logprobs is " + std::to_string(options.logprobs) + ", expected <= 1000");
  }
}

void Emitter::take(const StepResult& step) {
  std::string piece;
  for (size_t i = 0; i < step.tokens.size() && !done(); ++i) {
    const int32_t token = step.tokens[i];
    out_.tokens.push_back(token);
    if (i < step.logprobs.size()) out_.logprobs.push_back(step.logprobs[i]);
    if (tokenizer_.is_end(token)) {
      finish("stop");
    } else {
      piece += stops_.push(utf8_.push(tokenizer_.token_bytes(token)));
      if (stops_.stopped()) finish("stop");
    }
    if (left() <= 0) finish("length");
  }
  if (step.state == StepState::kContextFull) finish("context");
  show(piece);
}

void Emitter::flush() {
  std::string rest;
  if (!stops_.stopped()) {
    rest = stops_.push(utf8_.finish());
    rest += stops_.stopped() ? "" : stops_.finish();
  }
  if (!rest.empty()) show(rest);
}

void Emitter::show(const std::string& piece) {
  out_.text += piece;
  if (options_.on_text && !options_.on_text(piece)) finish("cancelled");
}

}  // namespace forerun
