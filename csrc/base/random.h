#pragma once

#include <cstdint>

namespace forerun {

// Counter-based noise: a pure function of (seed, position, token), so a token's noise is the same
// whatever the batch, tree, thread or drafter (Daliri, Musco, Suresh, arXiv 2408.07978).
// Philox4x32-10 (Salmon et al., SC 2011): key = seed, counter = (position, token, stream, 0).
// Streams are independent of each other: target samples, draws of a drafter, acceptance coins, and
// draws from residuals must not share noise (docs/methods.md).
enum class NoiseStream : uint32_t { kTarget = 0, kDraft = 1, kCoin = 2, kResidual = 3 };

uint32_t random_bits(uint64_t seed, int64_t position, int32_t token,
                     NoiseStream stream = NoiseStream::kTarget);

// Uniform in (0, 1): (bits + 0.5) / 2^32 in double.
double random_uniform(uint64_t seed, int64_t position, int32_t token,
                      NoiseStream stream = NoiseStream::kTarget);

// Uniform in [0, 1) with 53 bits, for draws that a 32-bit grid would bias.
double random_unit(uint64_t seed, int64_t position, int32_t index, NoiseStream stream);

// Standard Gumbel noise -log(-log(u)), at most kMaxGumbel. Uses base/math.h only: the same bits on
// every machine.
float gumbel_noise(uint64_t seed, int64_t position, int32_t token);
inline constexpr float kMaxGumbel = 22.875F;  // -log(-log(1 - 2^-33)) = 22.8739 (rounded up)

}  // namespace forerun
