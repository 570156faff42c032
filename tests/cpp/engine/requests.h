#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <vector>

#include "base/error.h"
#include "engine/options.h"
#include "model/tiny_model.h"

namespace forerun::test {

// Of a short alphabet, so that n-grams repeat.
inline std::vector<int32_t> repetitive_prompt(size_t tokens, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> prompt(tokens);
  for (int32_t& token : prompt) token = 97 + static_cast<int32_t>(random() % 6);
  return prompt;
}

inline GenerateOptions request(float temperature, uint64_t seed, int32_t tokens = 40) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.sampling.temperature = temperature;
  options.seed = seed;
  return options;
}

// A target and its first layers with its head: a draft that is often right.
struct TwoModels {
  explicit TwoModels(int32_t target_layers = 2, int32_t draft_layers = 1)
      : target({.layers = target_layers}), draft({.layers = draft_layers}) {}
  TinyModelFile target, draft;
};

// The kind of the error that must come; its text must not be empty.
inline ErrorKind kind_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_STRNE(error.what(), "");
    return error.kind();
  }
  ADD_FAILURE() << "no error";
  return ErrorKind::kDevice;
}

}  // namespace forerun::test
