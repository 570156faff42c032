// The functions of backend/cuda that kernels share with the host: no GPU needed.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "backend/cuda/elementwise.h"
#include "backend/cuda/file_block.h"
#include "backend/cuda/packed_layout.h"
#include "backend/cuda/test_data.h"
#include "backend/vocabulary.h"

namespace forerun::cuda {
namespace {

template <typename Type>
class CudaBlocks : public testing::Test {};

template <DType T>
struct Is {
  static constexpr DType kType = T;
};
using BlockTypes =
    testing::Types<Is<DType::kQ4_0>, Is<DType::kQ4_1>, Is<DType::kQ5_0>, Is<DType::kQ5_1>,
                   Is<DType::kQ8_0>, Is<DType::kQ4_K>, Is<DType::kQ5_K>, Is<DType::kQ6_K>>;
TYPED_TEST_SUITE(CudaBlocks, BlockTypes);

TYPED_TEST(CudaBlocks, CodesAndScalesOfABlockAreThoseOfTheFile) {
  constexpr DType kType = TypeParam::kType;
  using File = FileBlock<kType>;
  static_assert(File::kElements % 32 == 0);
  ASSERT_EQ(File::kBytes, dtype_info(kType).block_bytes);
  const auto matrix = cuda_test::random_matrix(kType, 1, 8 * 256, 7);
  UnpackedBlock wanted;
  for (size_t first = 0; first < matrix.bytes.size(); first += File::kBytes) {
    const auto* block = reinterpret_cast<const uint8_t*>(matrix.bytes.data() + first);
    unpack_block(kType, block, wanted);
    for (int i = 0; i < File::kElements; ++i) {
      const int code = kType == DType::kQ8_0
                           ? static_cast<int8_t>(File::code(block, i))
                           : static_cast<int>(File::code(block, i) ^ File::kZeroBit);
      ASSERT_EQ(code, wanted.code[i]) << "element " << i;
    }
    EXPECT_EQ(half_to_float(File::d(block)), wanted.d);
    const float m = half_to_float(File::m(block));
    EXPECT_EQ(File::kSuper ? m : -m, wanted.dmin);
    if constexpr (File::kSuper) {
      for (int group = 0; group < 256 / wanted.group_size; ++group) {
        const uint8_t scale = File::scale(block, group);
        EXPECT_EQ(kType == DType::kQ6_K ? static_cast<int8_t>(scale) : scale, wanted.scale[group]);
        EXPECT_EQ(File::kHasMin ? File::minimum(block, group) : 0, wanted.min[group]);
      }
    }
  }
}

// What mma computes from the registers of all lanes is the block's codes, times kFactor.
TYPED_TEST(CudaBlocks, PackedLanesHoldTheOperandOfTheMatrixInstruction) {
  constexpr DType kType = TypeParam::kType;
  using File = FileBlock<kType>;
  using P = Packed<kType>;
  const auto matrix = cuda_test::random_matrix(kType, 16, 256, 11);
  const auto block_of = [&](int output, int input) {
    return reinterpret_cast<const uint8_t*>(matrix.bytes.data() + output * matrix.row_bytes()) +
           input / File::kElements * File::kBytes;
  };
  UnpackedBlock wanted;
  for (int chunk = 0; chunk < 4; ++chunk) {
    const auto code = [&](int output, int input) {
      return File::code(block_of(output, chunk * 64 + input),
                        (chunk * 64 + input) % File::kElements);
    };
    for (int lane = 0; lane < 32; ++lane) {
      uint32_t low[8], high[3], a[4];
      P::pack_lane(lane, code, low, high);
      for (int group = 0; group < 2; ++group) {
        P::unpack_lane(low, high, group, a);
        for (int i = 0; i < 16; ++i) {
          const int output = lane / 4 + 8 * (i / 4 % 2);
          const int input = chunk * 64 + group * 32 + lane % 4 * 4 + i / 8 * 16 + i % 4;
          unpack_block(kType, block_of(output, input), wanted);
          const int value = wanted.code[input % File::kElements] - wanted.zero;
          ASSERT_EQ(static_cast<int8_t>(a[i / 4] >> (8 * (i % 4))), value * File::kFactor)
              << "lane " << lane << " group " << group << " byte " << i;
        }
      }
    }
  }
}

TYPED_TEST(CudaBlocks, PartsOfARecordAreAlignedAndCloseToTheSizeInTheFile) {
  using P = Packed<TypeParam::kType>;
  EXPECT_EQ(P::kHigh % 16 + P::kScale % 16 + P::kHalf % 16 + P::kRecord % 16, 0);
  const double file = 16.0 * P::kUnit / P::File::kElements * P::File::kBytes;
  EXPECT_LE(P::kRecord, file * 1.03);
}

TEST(CudaLayout, ActivationsOfAChunkAreAPermutationWithTheWordsOfALaneTogether) {
  std::vector<int> seen(64, 0);
  for (int input = 0; input < 64; ++input) ++seen[static_cast<size_t>(activation_offset(input))];
  EXPECT_EQ(seen, std::vector<int>(64, 1));
  for (int lane = 0; lane < 4; ++lane) {
    for (int word = 0; word < 4;
         ++word) {  // B operand: word i of a group holds inputs 4 t + 16 i ..
      const int input = word / 2 * 32 + word % 2 * 16 + lane * 4;
      EXPECT_EQ(activation_offset(input), lane * 16 + word * 4);
    }
  }
}

TEST(CudaElementwise, ExpIsWithinTwoUnitsOfTheLastPlace) {
  for (int i = -870000; i <= 886000; i += 37) {
    const float x = static_cast<float>(i) * 1e-4F;
    const double wanted = std::exp(static_cast<double>(x));
    ASSERT_NEAR(exp_f32(x) / wanted, 1.0, 2.4e-7) << x;
  }
  EXPECT_EQ(exp_f32(0.0F), 1.0F);
  EXPECT_EQ(exp_f32(-std::numeric_limits<float>::infinity()), 0.0F);
  EXPECT_EQ(exp_f32(-88.0F), 0.0F);
  EXPECT_TRUE(std::isinf(exp_f32(89.0F)));
  EXPECT_TRUE(std::isnan(exp_f32(std::numeric_limits<float>::quiet_NaN())));
}

// A sum over one token is its exponential.
TEST(CudaElementwise, ExpToOneHasTheBitsOfTheVectorsOfTheCpu) {
  const auto by_vectors = [](float x) {
    const NoiseScan scan{&x, 1};
    return static_cast<float>(vocabulary_kernels().mass(scan, 0, 1, 0.0F).total);
  };
  for (const float x : {0.0F, -0.0F, -87.0F, std::nextafter(-87.0F, -90.0F), -1e30F, -1e-30F})
    ASSERT_EQ(exp_to_one(x), by_vectors(x)) << x;
  for (int i = 0; i < 880000; i += 7) {
    const float x = -1.0001F * static_cast<float>(i) * 1e-4F;
    ASSERT_EQ(exp_to_one(x), by_vectors(x)) << x;
  }
}

TEST(CudaElementwise, SiluAndRotationFollowTheirFormulas) {
  for (const float x : cuda_test::random_floats(1000, 3, 6.0F)) {
    const double wanted = x / (1.0 + std::exp(-static_cast<double>(x)));
    EXPECT_NEAR(silu(x), wanted, 1e-6 * (1.0 + std::fabs(wanted)));
  }
  const Pair turned = rotate(1.0F, 2.0F, 0.6F, 0.8F);
  EXPECT_NEAR(turned.first, 1.0 * 0.6 - 2.0 * 0.8, 1e-6);
  EXPECT_NEAR(turned.second, 2.0 * 0.6 + 1.0 * 0.8, 1e-6);
}

TEST(CudaElementwise, QuantizerRoundsToEvenAndMarksWhatIsNotFinite) {
  const BlockScale scale = block_scale(magnitude_bits(-127.0F));
  EXPECT_EQ(scale.d, 1.0F);
  EXPECT_EQ(quantize(2.5F, scale.inverse), 2);
  EXPECT_EQ(quantize(-3.5F, scale.inverse), -4);
  EXPECT_EQ(quantize(-127.0F, scale.inverse), -127);
  EXPECT_EQ(block_scale(magnitude_bits(1e-31F)).d, 0.0F);
  const BlockScale broken = block_scale(magnitude_bits(-std::numeric_limits<float>::infinity()));
  EXPECT_TRUE(std::isnan(broken.d));
  EXPECT_EQ(quantize(std::numeric_limits<float>::quiet_NaN(), broken.inverse), 0);
}

TEST(CudaElementwise, TopKKeysOrderValuesThenIds) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float ordered[] = {infinity, 3.0F, 1e-40F, 0.0F, -1e-40F, -2.0F, -infinity};
  for (size_t i = 0; i + 1 < std::size(ordered); ++i) {
    EXPECT_GT(top_k_key(ordered[i], 9), top_k_key(ordered[i + 1], 1)) << ordered[i];
  }
  EXPECT_GT(top_k_key(0.5F, 3), top_k_key(0.5F, 4));
  EXPECT_GT(top_k_key(-0.0F, 3), top_k_key(0.0F, 4));
  EXPECT_GT(top_k_key(0.0F, 3), top_k_key(-0.0F, 4));
  EXPECT_EQ(top_k_key(std::numeric_limits<float>::quiet_NaN(), 5), top_k_key(-infinity, 5));
  for (const float value : ordered) {
    EXPECT_EQ(top_k_value(top_k_key(value, 123456)), value);
    EXPECT_EQ(top_k_id(top_k_key(value, 123456)), 123456U);
  }
}

}  // namespace
}  // namespace forerun::cuda
