// The matrix instructions of the emulated GPU, whole and put together for compute capability 7.5,
// beside a plain product.
#include <random>

#include "backend/cuda/mma.cuh"
#include "cuda_emulator/emulator_test.h"

namespace forerun::emulated_test {
namespace {

// Where the registers of a lane lie, from the figures of the PTX ISA.
int row_of_a(int lane, int word) { return lane / 4 + (word == 1 || word == 3 ? 8 : 0); }
int input_of_a(int lane, int word, int byte) {
  return lane % 4 * 4 + byte + (word == 2 || word == 3 ? 16 : 0);
}

__global__ void product_kernel(const uint32_t* a, const uint32_t* b, int32_t* c, int depth) {
  cuda::begin_kernel();
  const int lane = threadIdx.x;
  const uint32_t words[4] = {a[lane * 4], a[lane * 4 + 1], a[lane * 4 + 2], a[lane * 4 + 3]};
  const cuda::Tile tile = depth == 32 ? cuda::mma_32(words, b[lane * 2], b[lane * 2 + 1])
                                      : cuda::mma_16(words[0], words[1], b[lane * 2]);
  for (int i = 0; i < 4; ++i) c[lane * 4 + i] = tile.v[i];
}

TEST(EmulatedMma, IsAProductOfSignedBytes) {
  std::mt19937 random(5);
  for (const int depth : {32, 16}) {
    int8_t a[16][32], b[32][8];
    for (auto& row : a)
      for (int8_t& value : row) value = static_cast<int8_t>(random());
    for (auto& row : b)
      for (int8_t& value : row) value = static_cast<int8_t>(random());
    std::vector<uint32_t> words_a(128, 0), words_b(64, 0);
    for (int lane = 0; lane < 32; ++lane) {
      for (int word = 0; word < depth / 8; ++word) {
        for (int byte = 0; byte < 4; ++byte) {
          const auto value =
              static_cast<uint8_t>(a[row_of_a(lane, word)][input_of_a(lane, word, byte)]);
          words_a[static_cast<size_t>(lane * 4 + word)] |= uint32_t{value} << (8 * byte);
        }
      }
      for (int word = 0; word < depth / 16; ++word) {
        for (int byte = 0; byte < 4; ++byte) {
          const auto value = static_cast<uint8_t>(b[lane % 4 * 4 + byte + 16 * word][lane / 4]);
          words_b[static_cast<size_t>(lane * 2 + word)] |= uint32_t{value} << (8 * byte);
        }
      }
    }
    const OnDevice<uint32_t> on_a(words_a), on_b(words_b);
    const OnDevice<int32_t> on_c(std::vector<int32_t>(128, -1));
    run(product_kernel, dim3(1), dim3(32), 0, on_a.data(), on_b.data(), on_c.data(), depth);
    const auto found = on_c.values();
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + (i & 1);
        int32_t wanted = 0;
        for (int k = 0; k < depth; ++k) wanted += a[row][k] * b[k][column];
        ASSERT_EQ(found[static_cast<size_t>(lane * 4 + i)], wanted)
            << "arch " << __CUDA_ARCH__ << " depth " << depth << " lane " << lane << " c" << i;
      }
    }
  }
}

TEST(EmulatedMma, PermutesBytesAndRepeatsSigns) {
  EXPECT_EQ(cuda::permute_bytes(0x33221100U, 0x77665544U, 0x3210U), 0x33221100U);
  EXPECT_EQ(cuda::permute_bytes(0x33221100U, 0x77665544U, 0x7046U), 0x77004466U);
  EXPECT_EQ(cuda::permute_bytes(0x00FF8001U, 0, 0x9991U), 0xFFFFFF80U);
  EXPECT_EQ(cuda::permute_bytes(0x00FF7F01U, 0, 0x9991U), 0x0000007FU);
}

TEST(EmulatedMma, MultipliesPairsOfSixteenBitValuesWithBytes) {
  const int pair = static_cast<int>(0xFFFE0003U);   // -2 and 3
  const int bytes = static_cast<int>(0x7F80FF05U);  // 127, -128, -1, 5
  EXPECT_EQ(__dp2a_lo(pair, bytes, 100), 100 + 3 * 5 + 2);
  EXPECT_EQ(__dp2a_hi(pair, bytes, 100), 100 - 3 * 128 - 2 * 127);
}

__global__ void copies_kernel(const uint4* in, uint4* out) {
  cuda::begin_kernel();
  auto* shared = cuda::shared_memory<uint4>();
  const auto to = [&](int i) { return reinterpret_cast<std::byte*>(shared + 4 * threadIdx.x + i); };
  for (int i = 0; i < 3; ++i) {
    cuda::copy_async(to(i), in + 3 * threadIdx.x + i);
    cuda::commit_copies();
  }
  cuda::wait_copies<1>();
  for (int i = 0; i < 3; ++i) out[3 * threadIdx.x + i] = shared[4 * threadIdx.x + i];
  cuda::wait_copies<0>();
}

TEST(EmulatedMma, CopiesArriveWhenTheirGroupIsWaitedFor) {
  std::vector<uint4> in;
  for (unsigned i = 0; i < 6; ++i) in.push_back({i, i, i, i});
  const OnDevice<uint4> from(in), to(std::vector<uint4>(6));
  run(copies_kernel, dim3(1), dim3(2), 128, from.data(), to.data());
  const auto found = to.values();
  for (unsigned i = 0; i < 6; ++i) EXPECT_EQ(found[i].x, i % 3 < 2 ? i : ~0U) << i;
}

}  // namespace
}  // namespace forerun::emulated_test
