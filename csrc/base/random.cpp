#include "base/random.h"

#include "base/exact_math.h"

namespace forerun {

uint32_t random_bits(uint64_t seed, int64_t position, int32_t token, NoiseStream stream) {
  return exact::random_words(seed, position, token, stream).at[0];
}

double random_uniform(uint64_t seed, int64_t position, int32_t token, NoiseStream stream) {
  return exact::uniform(random_bits(seed, position, token, stream));
}

double random_unit(uint64_t seed, int64_t position, int32_t index, NoiseStream stream) {
  const exact::Words block = exact::random_words(seed, position, index, stream);
  const uint64_t bits = (static_cast<uint64_t>(block.at[1]) << 32 | block.at[2]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

float gumbel_noise(uint64_t seed, int64_t position, int32_t token) {
  return exact::gumbel(random_bits(seed, position, token));
}

}  // namespace forerun
