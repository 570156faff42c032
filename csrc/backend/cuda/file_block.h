#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "base/host_device.h"

namespace forerun::cuda {

// Reads single codes and scales out of a block as the file stores it (base/blocks.h has the
// formats), so that one thread of the packing kernel can gather what its lane of the matrix
// instruction will need.
template <DType T>
struct FileBlock {
  static constexpr bool kSuper = T == DType::kQ4_K || T == DType::kQ5_K || T == DType::kQ6_K;
  static constexpr bool kHasMin =
      T == DType::kQ4_1 || T == DType::kQ5_1 || T == DType::kQ4_K || T == DType::kQ5_K;
  static constexpr int kElements = kSuper ? 256 : 32;
  static constexpr int kBits = T == DType::kQ8_0                                             ? 8
                               : T == DType::kQ6_K                                           ? 6
                               : T == DType::kQ5_0 || T == DType::kQ5_1 || T == DType::kQ5_K ? 5
                                                                                             : 4;
  static constexpr int kBytes = T == DType::kQ4_0   ? 18
                                : T == DType::kQ4_1 ? 20
                                : T == DType::kQ5_0 ? 22
                                : T == DType::kQ5_1 ? 24
                                : T == DType::kQ8_0 ? 34
                                : T == DType::kQ4_K ? 144
                                : T == DType::kQ5_K ? 176
                                                    : 210;
  // The matrix instruction multiplies signed bytes. Types centred on a zero code are kept in two's
  // complement in the top bits of the byte, that is times kFactor; d is divided by it, which is
  // exact.
  static constexpr int kFactor = T == DType::kQ4_0   ? 16
                                 : T == DType::kQ5_0 ? 8
                                 : T == DType::kQ6_K ? 4
                                                     : 1;
  static constexpr int kZeroBit = T == DType::kQ4_0   ? 8
                                  : T == DType::kQ5_0 ? 16
                                  : T == DType::kQ6_K ? 32
                                                      : 0;

  // The code with its zero bit flipped: kBits bits.
  static FORERUN_HD uint32_t code(const uint8_t* block, int i) {
    if constexpr (T == DType::kQ8_0) {
      return block[2 + i];
    } else if constexpr (T == DType::kQ6_K) {
      const int half = i / 128, quarter = i % 128 / 32, lane = i % 32;
      const uint32_t low = block[half * 64 + quarter % 2 * 32 + lane] >> (quarter / 2 * 4) & 0x0F;
      const uint32_t high = block[128 + half * 32 + lane] >> (quarter * 2) & 0x03;
      return (low | high << 4) ^ kZeroBit;
    } else if constexpr (kSuper) {
      const uint8_t* qs = block + (T == DType::kQ5_K ? 48 : 16);
      uint32_t value = qs[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 0x0F;
      if constexpr (T == DType::kQ5_K) value |= (block[16 + i % 32] >> (i / 32) & 1U) << 4;
      return value;
    } else {
      const uint8_t* qh = block + (kHasMin ? 4 : 2);
      const uint8_t* qs = qh + (kBits == 5 ? 4 : 0);
      uint32_t value = qs[i % 16] >> (i / 16 * 4) & 0x0F;
      if constexpr (kBits == 5) value |= (qh[i / 8] >> (i % 8) & 1U) << 4;
      return value ^ kZeroBit;
    }
  }

  // Group scale and minimum of the K types: 32 elements, 16 for Q6_K (signed, no minimum).
  static FORERUN_HD uint8_t scale(const uint8_t* block, int group) {
    if constexpr (T == DType::kQ6_K) return block[192 + group];
    const uint8_t* packed = block + 4;
    if (group < 4) return packed[group] & 0x3F;
    return static_cast<uint8_t>((packed[group + 4] & 0x0F) | (packed[group - 4] >> 2 & 0x30));
  }
  static FORERUN_HD uint8_t minimum(const uint8_t* block, int group) {
    const uint8_t* packed = block + 4;
    if (group < 4) return packed[group + 4] & 0x3F;
    return static_cast<uint8_t>(packed[group + 4] >> 4 | (packed[group] >> 2 & 0x30));
  }

  // Bits of the half floats d and dmin (or m of the *_1 types).
  static FORERUN_HD uint16_t d(const uint8_t* block) {
    const uint8_t* at = block + (T == DType::kQ6_K ? 208 : 0);
    return static_cast<uint16_t>(at[0] | at[1] << 8);
  }
  static FORERUN_HD uint16_t m(const uint8_t* block) {
    return kHasMin ? static_cast<uint16_t>(block[2] | block[3] << 8) : uint16_t{0};
  }
};

}  // namespace forerun::cuda
