#pragma once

#include <cstdint>

// Layouts that packing and kernels agree on (plain integers only: included by the instruction-set
// files).
//
// Weights lie in panels of 16 outputs; a lane is an output, so that no dot product needs a
// horizontal sum. A vector of codes is 64 bytes: 4 consecutive inputs (a step) for each of the 16
// outputs. 32 inputs are 8 steps:
//   nibbles  4 vectors; vector t holds step t in the low and step t + 4 in the high halves of its
//   bytes bit      1 vector (fifth bit); bit t of a byte belongs to step t pair     2 vectors (bits
//   4 and 5); vector t / 4 has step t in bits 2 (t % 4) and up
// Panels of K types are a row of superblocks (256 inputs), those of the legacy types first all
// codes, then all scales, so that every vector is aligned; float panels are [inputs][16]. Rows are
// padded with zeros to whole panels.
namespace forerun {

inline constexpr int kPanelRows = 16;

// One superblock of 16 x 256 weights.
//   nibbles [8][256] | bit [8][64] or pair [8][128] | scales, mins | d (and dmin) [16] half
struct PanelQ4K {
  static constexpr int kScales = 2048;         // [8 groups][16] u8
  static constexpr int kMins = kScales + 128;  // [4 group pairs][16][2] u8
  static constexpr int kD = kMins + 128;
  static constexpr int kDmin = kD + 32;
  static constexpr int kBytes = 2368;
};
struct PanelQ5K {
  static constexpr int kPlane = 2048;
  static constexpr int kScales = kPlane + 512;
  static constexpr int kMins = kScales + 128;
  static constexpr int kD = kMins + 128;
  static constexpr int kDmin = kD + 32;
  static constexpr int kBytes = 2880;
};
struct PanelQ6K {
  static constexpr int kPlane = 2048;
  static constexpr int kScales = kPlane + 1024;  // [8 group pairs][16][2] s8
  static constexpr int kD = kScales + 256;
  static constexpr int kBytes = 3392;  // 32 bytes of padding
};

// Legacy panels: codes [blocks][kCodes] | scales [blocks][kScales], the whole rounded up to 64
// bytes.
struct PanelQ4 {
  static constexpr int kCodes = 256;
};
struct PanelQ5 {
  static constexpr int kCodes = 320;  // nibbles, bit
};
struct PanelQ8 {
  static constexpr int kCodes = 512;  // signed bytes
};
inline constexpr int kHalfRow = 32;  // d [16] half; *_1 types have m [16] half after it

// Activations, quantised per row: code = round(x * 127 / amax), to nearest even, x ~ d * code. A
// row with a value that is not finite has d = NaN in that block; one with amax < 1e-30 counts as
// zero. [block][row], so that the rows of a block lie at constant distances.
struct alignas(64) ActivationK {
  int8_t code[256];
  int32_t start16[16];  // -32 * sum of 16 codes: the zero point of 6-bit weights
  int16_t sum16[16];    // sums of 16 codes
  int16_t sum32[8];     // and of 32
  float d;
  int32_t padding[3];
};
static_assert(sizeof(ActivationK) == 384);

struct alignas(64) Activation32 {
  int8_t code[32];
  int32_t sum;                        // of the codes
  int32_t start8, start16, start128;  // -8, -16, -128 * sum: the zero points of weights
  float d;
  float d_sum;  // d * sum, which minima are multiplied with
  int32_t padding[2];
};
static_assert(sizeof(Activation32) == 64);

}  // namespace forerun
