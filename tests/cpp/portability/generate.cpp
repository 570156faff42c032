// Loads a model with the shared library and prints the tokens of a seeded text, with speculation,
// and the back end. Exit code 1 and a line on stderr when the library refuses.
//   portable_generate MODEL
#include <cstdio>
#include <exception>

#include "engine/engine.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    forerun::EngineOptions options;
    options.target = argv[1];
    options.draft = "ngram";
    options.fixed_draft = 4;
    options.threads = 2;
    const auto engine = forerun::Engine::load(options);
    forerun::GenerateOptions request;
    request.max_tokens = 12;
    request.sampling.temperature = 0.8F;
    request.sampling.top_p = 0.95F;
    request.seed = 3;
    for (const int32_t token : engine->generate("abcabcabc", request).tokens) {
      std::printf("%d ", token);
    }
    std::printf("\n%s\n", engine->info().backend.c_str());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "portable_generate: %s\n", error.what());
    return 1;
  }
}
