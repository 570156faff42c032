#include "base/blocks.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace forerun {
namespace {

// One block of each type and the fp32 bits that gguf.quants.dequantize (gguf 0.19) gives for some
// elements.
struct Vector {
  DType dtype;
  const char* block;                           // hexadecimal
  std::vector<std::pair<int, uint32_t>> bits;  // element, value
};

const std::vector<Vector>& vectors() {
  static const std::vector<Vector> kVectors = {
      {DType::kQ4_0,
       "c028e5f1a94106a0956a26afbccdafe562f9",
       {{0, 0xBDE40000}, {1, 0xBE850000}, {15, 0x3D180000}, {16, 0x3E640000}, {31, 0x3E850000}}},
      {DType::kQ4_1,
       "c028f0be42276ad5ab2da7394551370e99b2d74c",
       {{0, 0xBFD48000}, {1, 0xBFBCC000}, {15, 0xBFA50000}, {16, 0xBFCB0000}, {31, 0xBFCB0000}}},
      {DType::kQ5_0,
       "c028fa48d732a1df70aca1e926115901dd06f27f8f06",
       {{0, 0xBF0E8000}, {1, 0x3F0E8000}, {15, 0xBEBE0000}, {16, 0x3EBE0000}, {31, 0xBF180000}}},
      {DType::kQ5_1,
       "c028f0bef9bd0ccc21397c1ec795ca7748dc03d17a88934d",
       {{0, 0xBF8D4000}, {1, 0xBFB34000}, {15, 0xBF288000}, {16, 0xBFD48000}, {31, 0xBF7E0000}}},
      {DType::kQ8_0,
       "c0287357a2e64647f03e2fb81f223f4192c58efd5185f0711ef7677a1f132a818d88",
       {{0, 0x40889000}, {1, 0x404EA000}, {15, 0xC00C2000}, {16, 0xC0876000}, {31, 0xC08E8000}}},
      {DType::kQ4_K,
       "c028f0be6b236b82481bd9fe630dc3ce3be4ebcab72f45b35223479f6e794d57037e2cfde9e1"
       "5a7789781e3721a557d8e5a703296dcb81db3f65cf9c1bdc5d1d8fc83f0b0bb4db71be572209"
       "851d3d24f4c0cf83fe4363f82f4759778955f6ced681cbea7179ced2c8f814a13472ff70ce36"
       "9d8385452a44f318337f08cd1e614f235d3f83bc45fee9ee0403a79be118",
       {{0, 0x41FB6C00},
        {31, 0x41D52000},
        {32, 0x424AE600},
        {95, 0x4246F800},
        {100, 0x42D7F400},
        {127, 0x42D75C00},
        {128, 0x4223E800},
        {160, 0x40E79000},
        {203, 0x42E54700},
        {255, 0x42D38A00}}},
      {DType::kQ5_K,
       "c028f0be7c9311f85e0429b19f7ec0e156f65a3322e791b880ee995e3f0d307d2fbaf400693a"
       "179e0d027ed4e58be7a9ebc28a271d43a78855638144eb6603f7b2725de11fe6ac2f88a68182"
       "869793f0aad6ded8116e3ab51681c4a374fec70a68b3e4bdc92b387987416c17ec90963ec766"
       "888ab4b80eba7c5cfd81121bea9cee1810dfd5169faf26cd7b5c30c8aba44d972299e8c7b41b"
       "9a1d2b0f180600a974d63b6332202c998e82b2522c49c439",
       {{0, 0x42990C00},
        {31, 0x42AF5000},
        {32, 0x41E0B800},
        {95, 0x429FE200},
        {100, 0x42AE2000},
        {127, 0x42F8F000},
        {128, 0x428BA300},
        {160, 0x42028000},
        {203, 0x41A68000},
        {255, 0x42E4A900}}},
      {DType::kQ6_K,
       "4c7d73265b6aaf61b288fbd0aecfa766616223611e764c93aa388ffabd0a6a6412b209971e2d"
       "827076f7e49ab8fa197271be53a3442b128cdad72bad0f8aeef42a0b9a26d74fc78f2562b870"
       "1097a55b5510543d27ed600de3200a6749307fd37899c118819af6674394c3f7aa5f93f32c81"
       "0a37ca7bf1013ccdf8ab8ab4a6039954e84cbe3b3f7f1183c3df8375c517b4e786a9aadf7488"
       "f892b12191387ad86aca56d8531c927b931fe8f16e795b9b331767e712dbe8f5331dd9917f01"
       "e64710dd3c25f4d21690a049453135550ec0c028",
       {{0, 0xC0180000},
        {31, 0x42117800},
        {32, 0x408E8000},
        {95, 0x41889000},
        {100, 0x3F510000},
        {127, 0xC300D800},
        {128, 0xC20E8000},
        {160, 0x41A3E000},
        {203, 0x4234F200},
        {255, 0x42180000}}},
  };
  return kVectors;
}

std::vector<uint8_t> from_hex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(Blocks, GiveTheBitsOfTheGgufPackage) {
  for (const Vector& vector : vectors()) {
    const DTypeInfo& info = dtype_info(vector.dtype);
    const std::vector<uint8_t> block = from_hex(vector.block);
    ASSERT_EQ(block.size(), static_cast<size_t>(info.block_bytes));
    std::vector<float> values(static_cast<size_t>(info.block));
    dequantize(vector.dtype, block.data(), info.block, values.data());
    for (const auto& [element, bits] : vector.bits) {
      EXPECT_EQ(std::bit_cast<uint32_t>(values[static_cast<size_t>(element)]), bits)
          << info.name << " element " << element;
    }
  }
}

// The integers of UnpackedBlock and its formula say the same as dequantize, in double within fp32
// rounding.
TEST(Blocks, UnpackIntoTheIntegersOfTheDocumentedFormula) {
  for (const Vector& vector : vectors()) {
    const DTypeInfo& info = dtype_info(vector.dtype);
    const std::vector<uint8_t> bytes = from_hex(vector.block);
    UnpackedBlock block;
    unpack_block(vector.dtype, bytes.data(), block);
    EXPECT_EQ(block.size, info.block);
    EXPECT_EQ(block.group_size, vector.dtype == DType::kQ6_K ? 16 : 32);
    for (const auto& [element, bits] : vector.bits) {
      const int group = element / block.group_size;
      const double value =
          static_cast<double>(block.d) * block.scale[group] * (block.code[element] - block.zero) -
          static_cast<double>(block.dmin) * block.min[group];
      EXPECT_NEAR(std::bit_cast<float>(bits), value, 1e-4) << info.name << " element " << element;
    }
  }
}

TEST(Blocks, DequantizeConsecutiveBlocksAtAnyAddress) {
  for (const Vector& vector : vectors()) {
    const DTypeInfo& info = dtype_info(vector.dtype);
    const std::vector<uint8_t> block = from_hex(vector.block);
    std::vector<uint8_t> shifted(1, 0);
    for (int copy = 0; copy < 3; ++copy) shifted.insert(shifted.end(), block.begin(), block.end());
    std::vector<float> values(static_cast<size_t>(3 * info.block));
    dequantize(vector.dtype, shifted.data() + 1, 3 * info.block, values.data());
    for (const auto& [element, bits] : vector.bits) {
      const float value = values[static_cast<size_t>(2 * info.block + element)];
      EXPECT_EQ(std::bit_cast<uint32_t>(value), bits) << info.name;
    }
  }
}

TEST(Blocks, RefuseTypesAndCountsThatDoNotFit) {
  float out[32];
  const uint8_t bytes[34] = {};
  UnpackedBlock block;
  for (const DType dtype : {DType::kI8, DType::kI32}) {
    EXPECT_THROW(dequantize(dtype, bytes, 1, out), Error);
    EXPECT_THROW(unpack_block(dtype, bytes, block), Error);
  }
  EXPECT_THROW(unpack_block(DType::kF32, bytes, block), Error);
  EXPECT_THROW(dequantize(DType::kQ8_0, bytes, 31, out), Error);
  EXPECT_THROW(dequantize(DType::kQ8_0, bytes, -32, out), Error);
  EXPECT_NO_THROW(dequantize(DType::kQ8_0, bytes, 0, out));
}

// The value of a half by the definition of the format, in exact double arithmetic.
double half_value(uint16_t half) {
  const int exponent = half >> 10 & 0x1F;
  const int mantissa = half & 0x3FF;
  const double sign = (half & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  if (exponent == 31) {
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(HalfFloats, WidenAndNarrowBackForEveryBitPattern) {
  for (int bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = half_to_float(half);
    const double expected = half_value(half);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_TRUE(std::isnan(half_to_float(float_to_half(value))));
      continue;
    }
    ASSERT_EQ(static_cast<double>(value), expected) << bits;
    ASSERT_EQ(std::signbit(value), (half & 0x8000) != 0) << bits;
    ASSERT_EQ(float_to_half(value), half) << bits;
  }
}

// Between two neighbouring halves: the nearer one, at the midpoint the even one.
TEST(HalfFloats, RoundToNearestEven) {
  for (int bits = 0; bits < 0x7BFF; ++bits) {
    const auto low = static_cast<uint16_t>(bits);
    const auto high = static_cast<uint16_t>(bits + 1);
    const auto middle = static_cast<float>((half_value(low) + half_value(high)) / 2);  // exact
    const float infinity = std::numeric_limits<float>::infinity();
    ASSERT_EQ(float_to_half(middle), bits % 2 == 0 ? low : high) << bits;
    ASSERT_EQ(float_to_half(std::nextafter(middle, 0.0F)), low) << bits;
    ASSERT_EQ(float_to_half(std::nextafter(middle, infinity)), high) << bits;
    ASSERT_EQ(float_to_half(-middle), 0x8000 | (bits % 2 == 0 ? low : high)) << bits;
  }
  EXPECT_EQ(float_to_half(65519.996F), 0x7BFF);
  EXPECT_EQ(float_to_half(65520.0F), 0x7C00);
  EXPECT_EQ(float_to_half(-1e30F), 0xFC00);
  EXPECT_EQ(float_to_half(1e-30F), 0x0000);
}

TEST(HalfFloats, WidenBfloat16ByShiftingItsBits) {
  EXPECT_EQ(bfloat16_to_float(0x3F80), 1.0F);
  EXPECT_EQ(bfloat16_to_float(0xC049), -3.140625F);
  const uint16_t values[2] = {0x0001, 0xFF80};
  float out[2];
  dequantize(DType::kBF16, values, 2, out);
  EXPECT_EQ(std::bit_cast<uint32_t>(out[0]), 0x00010000U);
  EXPECT_EQ(out[1], -std::numeric_limits<float>::infinity());
}

}  // namespace
}  // namespace forerun
