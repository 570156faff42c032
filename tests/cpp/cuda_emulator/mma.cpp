#include "cuda_emulator/mma.h"

namespace forerun::emulated {
namespace {

int16_t byte_of(uint32_t word, int i) { return static_cast<int8_t>(word >> (8 * i)); }

}  // namespace

template <int kRows, int kDepth>
void multiply(const MmaOperands* lanes, MmaSums* out) {
  constexpr int kHalves = kRows / 8;
  int16_t a[kRows][kDepth], b[8][kDepth];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      for (int w = 0; w < kHalves * kDepth / 16; ++w)
        a[g + 8 * (w % kHalves)][4 * t + 16 * (w / kHalves) + i] = byte_of(lanes[lane].a[w], i);
      for (int w = 0; w < kDepth / 16; ++w) b[g][4 * t + 16 * w + i] = byte_of(lanes[lane].b[w], i);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 2 * kHalves; ++i) {
      const int16_t* row = a[lane / 4 + 8 * (i / 2)];
      const int16_t* column = b[2 * (lane % 4) + i % 2];
      int32_t sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += row[k] * column[k];
      out[lane].c[i] = lanes[lane].c[i] + sum;
    }
  }
}

template void multiply<8, 16>(const MmaOperands*, MmaSums*);
template void multiply<16, 16>(const MmaOperands*, MmaSums*);
template void multiply<16, 32>(const MmaOperands*, MmaSums*);

}  // namespace forerun::emulated
