#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/cpu_backend.h"
#include "base/blocks.h"
#include "base/cpu_features.h"
#include "base/error.h"
#include "base/forced_isa.h"

namespace forerun::test {

inline const std::vector<DType>& weight_types() {
  static const std::vector<DType> types = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0,
                                           DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                                           DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};
  return types;
}

// The kernels on tiles over tiles in plain C++ (tiles_emulated.cpp).
extern const MatmulTable kMatmulEmulated;

// The kernels of AVX-VNNI in the encoding of AVX-512 (avxvnni_evex.cpp).
extern const KernelTable kKernelsAvxVnniEvex;

// A back end of one instruction set, or nullptr where this machine lacks it. "tiles" multiplies on
// emulated tiles whatever the number of rows; "amx" does so on the processor's. "evex" is AVX-VNNI
// for machines that have its instructions with AVX-512 only.
inline std::unique_ptr<Backend> cpu_backend(const std::string& isa, int threads) {
  if (isa == "evex") {
    if (!cpu_features().avx512_vnni) return nullptr;
    return std::make_unique<CpuBackend>(threads, CpuKernels{"evex", kKernelsAvxVnniEvex});
  }
  if (isa == "tiles") {
    if (!cpu_features().avx512_vnni) return nullptr;
    const CpuKernels kernels = {"tiles", kKernelsAvx512, &kMatmulEmulated};
    auto backend = std::make_unique<CpuBackend>(threads, kernels);
    EXPECT_EQ(backend->choice().description(), "") << "a kernel on tiles gives other bits";
    backend->choice().prefer("tiles");
    return backend;
  }
  const ForcedIsa forced(isa.c_str());
  try {
    auto backend = make_cpu_backend(threads);
    if (isa == "amx") static_cast<CpuBackend&>(*backend).choice().prefer("amx");
    return backend;
  } catch (const Error&) {
    return nullptr;
  }
}

inline std::vector<std::string> present(std::vector<std::string> names) {
  std::erase_if(names, [](const std::string& isa) { return cpu_backend(isa, 1) == nullptr; });
  return names;
}

// Instruction sets that FORERUN_ISA knows; with those that stand in for one; and with the kernels
// on tiles, which only multiply.
inline std::vector<std::string> instruction_sets() {
  return present({"scalar", "avx2", "avxvnni", "avx512"});
}
inline std::vector<std::string> kernel_sets() {
  return present({"scalar", "avx2", "avxvnni", "evex", "avx512"});
}
inline std::vector<std::string> matmul_sets() {
  return present({"scalar", "avx2", "avxvnni", "evex", "avx512", "tiles", "amx"});
}

inline std::vector<float> random_floats(size_t count, uint64_t seed, float spread = 1.0F) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

// Offsets of the half floats in a block; every other byte may be anything.
inline std::vector<size_t> half_offsets(DType dtype) {
  switch (dtype) {
    case DType::kQ6_K:
      return {208};
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return {0, 2};
    default:
      return {0};
  }
}

// A matrix in the file's form with random codes, scales of both signs included.
struct RandomMatrix {
  std::vector<std::byte> bytes;
  HostMatrix host;

  RandomMatrix(DType dtype, int64_t rows, int64_t cols, uint64_t seed) {
    std::mt19937_64 generator(seed);
    bytes.resize(static_cast<size_t>(dtype_bytes(dtype, rows * cols)));
    if (is_quantized(dtype)) {
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(generator());
      const auto size = static_cast<size_t>(dtype_info(dtype).block_bytes);
      std::uniform_real_distribution<float> scale(-0.02F, 0.02F);
      for (size_t block = 0; block < bytes.size(); block += size) {
        for (size_t offset : half_offsets(dtype)) {
          const uint16_t half = float_to_half(scale(generator));
          std::memcpy(bytes.data() + block + offset, &half, sizeof(half));
        }
      }
    } else {
      std::normal_distribution<float> normal(0.0F, 0.1F);
      const auto size = static_cast<size_t>(dtype_info(dtype).block_bytes);
      for (size_t at = 0; at < bytes.size(); at += size) {
        const float value = normal(generator);
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof(bits));
        if (dtype == DType::kF16) bits = float_to_half(value);
        if (dtype == DType::kBF16) bits >>= 16;
        std::memcpy(bytes.data() + at, &bits, size);
      }
    }
    host = {dtype, rows, cols, bytes.data()};
  }
};

inline bool same_bits(const float* a, const float* b, size_t count) {
  return std::memcmp(a, b, count * sizeof(float)) == 0;
}

}  // namespace forerun::test
