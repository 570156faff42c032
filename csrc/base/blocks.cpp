#include "base/blocks.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "base/error.h"

namespace forerun {
namespace {

// Bytes in a file need not be aligned, so a block is always copied out before it is read.
template <typename Block>
Block load(const void* data) {
  Block block;
  std::memcpy(&block, data, sizeof(Block));
  return block;
}

void reset(UnpackedBlock& out, int32_t size, int32_t group_size, int32_t zero) {
  out.size = size;
  out.group_size = group_size;
  out.zero = zero;
  out.d = out.dmin = 0.0F;
  std::fill(std::begin(out.scale), std::end(out.scale), int16_t{1});
  std::fill(std::begin(out.min), std::end(out.min), int16_t{0});
}

// Legacy types: the low nibbles are elements 0..15, the high ones 16..31.
void nibbles_of_32(const uint8_t (&qs)[16], UnpackedBlock& out) {
  for (int i = 0; i < 16; ++i) {
    out.code[i] = static_cast<int16_t>(qs[i] & 0x0F);
    out.code[i + 16] = static_cast<int16_t>(qs[i] >> 4);
  }
}

void fifth_bits_of_32(const uint8_t (&qh)[4], UnpackedBlock& out) {
  for (int i = 0; i < 32; ++i) {
    out.code[i] = static_cast<int16_t>(out.code[i] | ((qh[i / 8] >> (i % 8) & 1) << 4));
  }
}

void minimum_of(uint16_t m, UnpackedBlock& out) {
  out.dmin = -half_to_float(m);
  out.min[0] = 1;
}

// Q4_K and Q5_K: eight 6-bit scales and eight 6-bit minima in 12 bytes. The first four of each are
// the low six bits of bytes 0..3 and 4..7; the last four have their low nibbles in bytes 8..11 and
// their two high bits at the top of bytes 0..7.
void scales_of_k(const uint8_t (&packed)[12], UnpackedBlock& out) {
  for (int g = 0; g < 4; ++g) {
    const int low = packed[g];
    const int mid = packed[g + 4];
    const int high = packed[g + 8];
    out.scale[g] = static_cast<int16_t>(low & 0x3F);
    out.min[g] = static_cast<int16_t>(mid & 0x3F);
    out.scale[g + 4] = static_cast<int16_t>((high & 0x0F) | ((low >> 2) & 0x30));
    out.min[g + 4] = static_cast<int16_t>((high >> 4) | ((mid >> 2) & 0x30));
  }
}

// Groups 2c and 2c+1 are the low and the high nibbles of the 32 bytes from 32c.
void nibbles_of_256(const uint8_t (&qs)[128], UnpackedBlock& out) {
  for (int chunk = 0; chunk < 4; ++chunk) {
    for (int i = 0; i < 32; ++i) {
      const uint8_t byte = qs[chunk * 32 + i];
      out.code[chunk * 64 + i] = static_cast<int16_t>(byte & 0x0F);
      out.code[chunk * 64 + 32 + i] = static_cast<int16_t>(byte >> 4);
    }
  }
}

void unpack_q4_k(const BlockQ4_K& block, UnpackedBlock& out) {
  reset(out, 256, 32, 0);
  out.d = half_to_float(block.d);
  out.dmin = half_to_float(block.dmin);
  scales_of_k(block.scales, out);
  nibbles_of_256(block.qs, out);
}

void unpack_q5_k(const BlockQ5_K& block, UnpackedBlock& out) {
  reset(out, 256, 32, 0);
  out.d = half_to_float(block.d);
  out.dmin = half_to_float(block.dmin);
  scales_of_k(block.scales, out);
  nibbles_of_256(block.qs, out);
  for (int group = 0; group < 8; ++group) {
    for (int i = 0; i < 32; ++i) {
      int16_t& code = out.code[group * 32 + i];
      code = static_cast<int16_t>(code | ((block.qh[i] >> group & 1) << 4));
    }
  }
}

// Each half (128 elements) has 64 low-nibble bytes and 32 bytes of high bit pairs: quarter 0 and 2
// are the low and high nibbles of the first 32 bytes, quarter 1 and 3 those of the second 32.
void unpack_q6_k(const BlockQ6_K& block, UnpackedBlock& out) {
  reset(out, 256, 16, 32);
  out.d = half_to_float(block.d);
  for (int group = 0; group < 16; ++group) out.scale[group] = block.scales[group];
  for (int half = 0; half < 2; ++half) {
    for (int quarter = 0; quarter < 4; ++quarter) {
      for (int i = 0; i < 32; ++i) {
        const int low = block.ql[half * 64 + (quarter % 2) * 32 + i] >> (quarter / 2 * 4) & 0x0F;
        const int high = block.qh[half * 32 + i] >> (quarter * 2) & 0x03;
        out.code[half * 128 + quarter * 32 + i] = static_cast<int16_t>(low | high << 4);
      }
    }
  }
}

[[noreturn]] void refuse(DType dtype, const char* what) {
  throw Error(ErrorKind::kUnsupported,
              std::string(what) + " " + std::string(dtype_info(dtype).name));
}

// fp32 in the order of gguf/quants.py: scale first, then code, then minus (dmin * min).
void dequantize_blocks(DType dtype, const std::byte* data, int64_t elements, float* out) {
  const DTypeInfo& info = dtype_info(dtype);
  UnpackedBlock block;
  for (int64_t first = 0; first < elements; first += info.block, data += info.block_bytes) {
    unpack_block(dtype, data, block);
    for (int32_t group = 0; group * block.group_size < block.size; ++group) {
      const float scale = block.d * static_cast<float>(block.scale[group]);
      const float offset = block.dmin * static_cast<float>(block.min[group]);
      const int16_t* code = block.code + group * block.group_size;
      float* value = out + first + group * block.group_size;
      for (int32_t i = 0; i < block.group_size; ++i) {
        value[i] = scale * static_cast<float>(code[i] - block.zero) - offset;
      }
    }
  }
}

}  // namespace

void unpack_block(DType dtype, const void* data, UnpackedBlock& out) {
  switch (dtype) {
    case DType::kQ4_0: {
      const auto block = load<BlockQ4_0>(data);
      reset(out, 32, 32, 8);
      out.d = half_to_float(block.d);
      return nibbles_of_32(block.qs, out);
    }
    case DType::kQ4_1: {
      const auto block = load<BlockQ4_1>(data);
      reset(out, 32, 32, 0);
      out.d = half_to_float(block.d);
      minimum_of(block.m, out);
      return nibbles_of_32(block.qs, out);
    }
    case DType::kQ5_0: {
      const auto block = load<BlockQ5_0>(data);
      reset(out, 32, 32, 16);
      out.d = half_to_float(block.d);
      nibbles_of_32(block.qs, out);
      return fifth_bits_of_32(block.qh, out);
    }
    case DType::kQ5_1: {
      const auto block = load<BlockQ5_1>(data);
      reset(out, 32, 32, 0);
      out.d = half_to_float(block.d);
      minimum_of(block.m, out);
      nibbles_of_32(block.qs, out);
      return fifth_bits_of_32(block.qh, out);
    }
    case DType::kQ8_0: {
      const auto block = load<BlockQ8_0>(data);
      reset(out, 32, 32, 0);
      out.d = half_to_float(block.d);
      std::copy(std::begin(block.qs), std::end(block.qs), out.code);
      return;
    }
    case DType::kQ4_K:
      return unpack_q4_k(load<BlockQ4_K>(data), out);
    case DType::kQ5_K:
      return unpack_q5_k(load<BlockQ5_K>(data), out);
    case DType::kQ6_K:
      return unpack_q6_k(load<BlockQ6_K>(data), out);
    default:
      refuse(dtype, "unpack_block: not a block type:");
  }
}

void dequantize(DType dtype, const void* data, int64_t elements, float* out) {
  const int64_t bytes = dtype_bytes(dtype, elements);
  const auto* source = static_cast<const std::byte*>(data);
  switch (dtype) {
    case DType::kF32:
      if (bytes > 0) std::memcpy(out, source, static_cast<size_t>(bytes));
      return;
    case DType::kF16:
      for (int64_t i = 0; i < elements; ++i) out[i] = half_to_float(load<uint16_t>(source + 2 * i));
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < elements; ++i) {
        out[i] = bfloat16_to_float(load<uint16_t>(source + 2 * i));
      }
      return;
    case DType::kI8:
    case DType::kI32:
      refuse(dtype, "dequantize: integer type");
    default:
      return dequantize_blocks(dtype, source, elements, out);
  }
}

float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000U) << 16;
  const uint32_t exponent = half >> 10 & 0x1FU;
  uint32_t mantissa = half & 0x3FFU;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000U | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  if (mantissa == 0) return std::bit_cast<float>(sign);
  const int shift = std::countl_zero(mantissa) - 21;  // moves the leading one to bit 10
  mantissa = mantissa << shift & 0x3FFU;
  return std::bit_cast<float>(sign | static_cast<uint32_t>(113 - shift) << 23 | mantissa << 13);
}

uint16_t float_to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000U;
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) {  // NaN: made quiet, the top of its payload kept
    return static_cast<uint16_t>(sign | 0x7E00U | (magnitude >> 13 & 0x3FFU));
  }
  if (magnitude >= 0x47800000U) return static_cast<uint16_t>(sign | 0x7C00U);  // 2^16 and above
  if (magnitude < 0x33000000U) return static_cast<uint16_t>(sign);  // below half of 2^-24
  const int exponent = static_cast<int>(magnitude >> 23);
  uint32_t mantissa = magnitude & 0x7FFFFFU;
  int dropped = 13;
  uint32_t base = 0;
  if (exponent < 113) {  // subnormal half: the implicit one becomes explicit
    mantissa |= 0x800000U;
    dropped = 126 - exponent;
  } else {
    base = static_cast<uint32_t>(exponent - 112) << 10;
  }
  const uint32_t kept = mantissa >> dropped;
  const uint32_t rest = mantissa & ((1U << dropped) - 1);
  const uint32_t halfway = 1U << (dropped - 1);
  const uint32_t up = rest > halfway || (rest == halfway && (kept & 1U) != 0) ? 1 : 0;
  return static_cast<uint16_t>(sign | (base + kept + up));  // a carry moves into the exponent
}

uint16_t float_to_finite_half(float value) {
  constexpr float kLargest = 65504.0F;
  return float_to_half(value > kLargest ? kLargest : value < -kLargest ? -kLargest : value);
}

float bfloat16_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

}  // namespace forerun
