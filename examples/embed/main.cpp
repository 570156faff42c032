// A small service on standard input: one prompt a line, the answer streamed as it comes.
//   embed MODEL.gguf [MAX_TOKENS] < prompts.txt
// Build: cmake -S . -B build -DCMAKE_PREFIX_PATH=<where forerun is installed> && cmake --build
// build

#include <forerun/engine.h>

#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s MODEL [MAX_TOKENS] < prompts\n", argv[0]);
    return 2;
  }
  try {
    forerun::EngineOptions model;
    model.target = argv[1];
    model.draft = "auto";
    const auto engine = forerun::Engine::load(model);
    forerun::GenerateOptions options;
    options.max_tokens = argc > 2 ? std::stoi(argv[2]) : 64;
    options.on_text = [](std::string_view piece) {
      std::cout << piece << std::flush;
      return static_cast<bool>(std::cout);  // the reader is gone: cancel
    };

    std::string prompt;
    while (std::getline(std::cin, prompt)) {
      const forerun::Completion answer = engine->generate(prompt, options);
      std::cout << '\n' << std::flush;
      const double seconds = answer.stats.decode_seconds;
      std::fprintf(stderr, "[%s: %zu tokens, %.1f tokens/s, tau %.2f]\n",
                   answer.finish_reason.c_str(), answer.tokens.size(),
                   seconds > 0 ? static_cast<double>(answer.tokens.size()) / seconds : 0.0,
                   answer.stats.tau());
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "embed: %s\n", error.what());
    return 1;
  }
  return 0;
}
