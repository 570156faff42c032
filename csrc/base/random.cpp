#include "base/random.h"

#include <array>

#include "base/math.h"

namespace forerun {
namespace {

// Philox4x32-10: ten rounds of two 32x32 -> 64 multiplications; the key grows by the golden ratio
// and sqrt(3) - 1.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {
        static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
        static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

// A position has 64 bits in the interface; its high half takes the counter's last word, 0 for any
// real text.
std::array<uint32_t, 4> random_block(uint64_t seed, int64_t position, int32_t token,
                                     NoiseStream stream) {
  const auto where = static_cast<uint64_t>(position);
  return philox({static_cast<uint32_t>(where), static_cast<uint32_t>(token),
                 static_cast<uint32_t>(stream), static_cast<uint32_t>(where >> 32)},
                static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

}  // namespace

uint32_t random_bits(uint64_t seed, int64_t position, int32_t token, NoiseStream stream) {
  return random_block(seed, position, token, stream)[0];
}

double random_uniform(uint64_t seed, int64_t position, int32_t token, NoiseStream stream) {
  return (random_bits(seed, position, token, stream) + 0.5) * 0x1p-32;
}

double random_unit(uint64_t seed, int64_t position, int32_t index, NoiseStream stream) {
  const std::array<uint32_t, 4> block = random_block(seed, position, index, stream);
  const uint64_t bits = (static_cast<uint64_t>(block[1]) << 32 | block[2]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

float gumbel_noise(uint64_t seed, int64_t position, int32_t token) {
  const double u = random_uniform(seed, position, token);
  const auto noise = static_cast<float>(-exact_log(-exact_log(u)));
  return noise < kMaxGumbel ? noise : kMaxGumbel;
}

}  // namespace forerun
