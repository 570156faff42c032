#pragma once

#include <cstdint>

#include "backend/cuda/file_block.h"

namespace forerun::cuda {

// Layout of a quantised matrix on the device: panels of 16 outputs; a panel is a run of records,
// one per `unit` of the inputs (a superblock of 256, or four blocks of 32), in input order. A
// record holds, all parts 16-byte aligned,
//   low    [unit / 64][32 lanes][4 words]   the codes in the order of mma m16n8k32's A operand (4
//   bits; 8 for Q8_0) high   [unit / 64][32 lanes][0, 1, 2]   the fifth bits, or the fifth and
//   sixth scale  [16 outputs][16 bytes]           K types: 8 scales and 8 minima, or 16 scales of
//   Q6_K half   [16 outputs][2, 4 or 8 halves]   K types: d, dmin; else d of the four blocks (and m
//   of the four)
// so a warp reads the codes of 16 x 64 weights with one 16-byte load per lane. Outputs past the
// last row and inputs past the last column are zeros. The file's d, m, scales and codes are kept
// bit for bit.
//
// Lane l of A, with g = l / 4 and t = l % 4: word i holds outputs g + 8 (i % 2), inputs 4 t + 16 (i
// / 2) + 0..3.
template <DType T>
struct Packed {
  using File = FileBlock<T>;
  static constexpr int kUnit = File::kSuper ? 256 : 128;
  static constexpr int kChunks = kUnit / 64;
  static constexpr int kLowWords = File::kBits == 8 ? 8 : 4;  // per lane and chunk
  static constexpr int kHighWords = File::kBits == 5   ? 1
                                    : File::kBits == 6 ? 2
                                                       : 0;                 // per lane and chunk
  static constexpr int kHalves = File::kSuper ? 2 : File::kHasMin ? 8 : 4;  // per output
  static constexpr int kHigh = kChunks * 128 * kLowWords;  // byte offset of each part
  static constexpr int kScale = kHigh + kChunks * 128 * kHighWords;
  static constexpr int kHalf = kScale + (File::kSuper ? 256 : 0);
  static constexpr int kRecord = kHalf + 16 * 2 * kHalves;

  // Words that a lane keeps of one chunk; code(output, input) with output in [0, 16), input in [0,
  // 64).
  template <typename Code>
  static FORERUN_HD void pack_lane(int lane, const Code& code, uint32_t* low, uint32_t* high) {
    for (int i = 0; i < kLowWords; ++i) low[i] = 0;
    for (int i = 0; i < kHighWords; ++i) high[i] = 0;
    for (int group = 0; group < 2; ++group) {
      for (int i = 0; i < 4; ++i) {
        for (int byte = 0; byte < 4; ++byte) {
          const int output = lane / 4 + 8 * (i % 2);
          const int input = 32 * group + 4 * (lane % 4) + 16 * (i / 2) + byte;
          const uint32_t bits = code(output, input);
          if constexpr (File::kBits == 8) {
            low[4 * group + i] |= bits << (8 * byte);
          } else {
            low[i] |= (bits & 0x0F) << (8 * byte + 4 * group);
            if constexpr (File::kBits == 5) high[0] |= (bits >> 4) << (8 * byte + 2 * i + group);
            if constexpr (File::kBits == 6) high[group] |= (bits >> 4) << (8 * byte + 2 * i);
          }
        }
      }
    }
  }

  // The A operand of one group of 32 inputs: signed bytes, File::kFactor times the value. The bits
  // of a code lie at the top of the byte where there is a factor, else at the bottom.
  static FORERUN_HD void unpack_lane(const uint32_t* low, const uint32_t* high, int group,
                                     uint32_t (&a)[4]) {
    for (int i = 0; i < 4; ++i) {
      if constexpr (File::kBits == 8) {
        a[i] = low[4 * group + i];
      } else if constexpr (File::kFactor == 16) {
        a[i] = (group == 0 ? low[i] << 4 : low[i]) & 0xF0F0F0F0U;
      } else {
        const uint32_t nibbles = (group == 0 ? low[i] : low[i] >> 4) & 0x0F0F0F0FU;
        if constexpr (File::kBits == 4) a[i] = nibbles;
        if constexpr (File::kBits == 5) {
          const uint32_t fifth = high[0] >> (2 * i + group) & 0x01010101U;
          a[i] = File::kFactor == 8 ? nibbles << 3 | fifth << 7 : nibbles | fifth << 4;
        }
        if constexpr (File::kBits == 6)
          a[i] = nibbles << 2 | (high[group] >> (2 * i) & 0x03030303U) << 6;
      }
    }
  }
};

// Where input k of an activation row lies within its chunk of 64 bytes: the B operand of both
// groups of 32, so that lane (g, t) reads its four words with one 16-byte load at 16 t.
FORERUN_HD int activation_offset(int input) {
  const int group = input / 32 % 2, half = input / 16 % 2, word = input / 4 % 4;
  return word * 16 + group * 8 + half * 4 + input % 4;
}

inline int32_t round_up(int32_t value, int32_t step) { return (value + step - 1) / step * step; }

}  // namespace forerun::cuda
