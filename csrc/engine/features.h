#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/tensor.h"
#include "draft/drafter.h"

namespace forerun {

struct EngineState;
struct Features;

// Error(kBadArgument) for a tap that the target does not have, or a top_k outside its vocabulary.
void check_features(const EngineState& engine, std::span<const int32_t> taps, int32_t top_k);

// Appends hidden states as half floats; a value that one cannot hold becomes the largest.
void append_states(const HiddenRows& rows, Features& out);

// Appends the out.top_k most likely tokens of each row of `logits`, which lie at `host`, `stride`
// apart, for the host to read.
void append_laws(const EngineState& engine, const Tensor& logits, const float* host, int64_t stride,
                 Features& out);

}  // namespace forerun
