#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace forerun {

// Finaliser of splitmix64: every bit of the input moves every bit of the result.
inline uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

// A hash of bytes that is the same on every machine and in every version: for files' checksums and
// fingerprints, against accidents, not against intent.
inline uint64_t hash_bytes(std::string_view bytes, uint64_t seed = 0) {
  uint64_t hash = mix64(seed + bytes.size() + 0x9E3779B97F4A7C15U);
  for (size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    const std::string_view piece = bytes.substr(at, sizeof(word));
    std::memcpy(&word, piece.data(), piece.size());
    hash = mix64(hash ^ word) + 0x9E3779B97F4A7C15U;
  }
  return hash;
}

template <typename Value>
uint64_t hash_values(std::span<const Value> values, uint64_t seed = 0) {
  return hash_bytes({reinterpret_cast<const char*>(values.data()), values.size_bytes()}, seed);
}

}  // namespace forerun
