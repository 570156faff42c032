#pragma once

#include <cstdint>

namespace forerun::emulated {

// What a lane brings to a matrix instruction, and what it takes away.
struct MmaOperands {
  uint32_t a[4], b[2];
  int32_t c[4];
};
struct MmaSums {
  int32_t c[4];
};

// C (rows x 8) += A (rows x depth) times B (depth x 8), signed bytes, of 32 lanes. Registers lie as
// the PTX ISA shows them for m8n8k16, m16n8k16 and m16n8k32: lane l, g = l / 4, t = l % 4. Word w
// of A holds row g + 8 (w % (rows / 8)), inputs 4 t + 16 (w / (rows / 8)) + 0..3; word w of B
// column g, inputs 4 t + 16 w + 0..3; c[i] row g + 8 (i / 2), column 2 t + i % 2.
template <int kRows, int kDepth>
void multiply(const MmaOperands* lanes, MmaSums* out);

}  // namespace forerun::emulated
