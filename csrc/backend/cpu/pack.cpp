#include "backend/cpu/pack.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "backend/cpu/packed.h"
#include "base/blocks.h"
#include "base/error.h"

namespace forerun {
namespace {

using Panel16 = UnpackedBlock[kPanelRows];  // the same block of 16 rows

// Codes of 32 inputs of each output, from element `first`: put(output, step), step[s] holding the
// four codes of step s.
template <typename Put>
void each_output(const Panel16& rows, int first, Put&& put) {
  for (int output = 0; output < kPanelRows; ++output) {
    uint8_t code[32];
    for (int i = 0; i < 32; ++i) code[i] = static_cast<uint8_t>(rows[output].code[first + i]);
    uint32_t step[8];
    std::memcpy(step, code, sizeof(step));
    put(output, step);
  }
}

// The four bytes of an output in a vector of codes.
void put_four(uint8_t* vector, int output, uint32_t four) {
  std::memcpy(vector + 4 * output, &four, sizeof(four));
}

void put_nibbles(const Panel16& rows, int first, uint8_t* out) {
  each_output(rows, first, [=](int output, const uint32_t* step) {
    for (int s = 0; s < 4; ++s) {
      put_four(out + s * 64, output, (step[s] & 0x0F0F0F0F) | (step[s + 4] & 0x0F0F0F0F) << 4);
    }
  });
}

void put_fifth_bits(const Panel16& rows, int first, uint8_t* out) {
  each_output(rows, first, [=](int output, const uint32_t* step) {
    uint32_t bits = 0;
    for (int s = 0; s < 8; ++s) bits |= (step[s] >> 4 & 0x01010101) << s;
    put_four(out, output, bits);
  });
}

void put_bit_pairs(const Panel16& rows, int first, uint8_t* out) {
  each_output(rows, first, [=](int output, const uint32_t* step) {
    for (int half = 0; half < 2; ++half) {
      uint32_t pairs = 0;
      for (int s = 0; s < 4; ++s) pairs |= (step[4 * half + s] >> 4 & 0x03030303) << (2 * s);
      put_four(out + half * 64, output, pairs);
    }
  });
}

void put_halves(uint8_t* out, int output, float value) {
  const uint16_t half = float_to_half(value);  // exact: it was a half
  std::memcpy(out + 2 * output, &half, sizeof(half));
}

template <typename Layout>
void put_scales_and_mins(const Panel16& rows, uint8_t* out) {
  for (int output = 0; output < kPanelRows; ++output) {
    const UnpackedBlock& block = rows[output];
    for (int g = 0; g < 8; ++g) {
      out[Layout::kScales + g * 16 + output] = static_cast<uint8_t>(block.scale[g]);
      out[Layout::kMins + g / 2 * 32 + output * 2 + g % 2] = static_cast<uint8_t>(block.min[g]);
    }
    put_halves(out + Layout::kD, output, block.d);
    put_halves(out + Layout::kDmin, output, block.dmin);
  }
}

void pack_q4_k(const Panel16& rows, uint8_t* out) {
  for (int part = 0; part < 8; ++part) put_nibbles(rows, part * 32, out + part * 256);
  put_scales_and_mins<PanelQ4K>(rows, out);
}

void pack_q5_k(const Panel16& rows, uint8_t* out) {
  for (int part = 0; part < 8; ++part) {
    put_nibbles(rows, part * 32, out + part * 256);
    put_fifth_bits(rows, part * 32, out + PanelQ5K::kPlane + part * 64);
  }
  put_scales_and_mins<PanelQ5K>(rows, out);
}

void pack_q6_k(const Panel16& rows, uint8_t* out) {
  for (int part = 0; part < 8; ++part) {
    put_nibbles(rows, part * 32, out + part * 256);
    put_bit_pairs(rows, part * 32, out + PanelQ6K::kPlane + part * 128);
  }
  for (int output = 0; output < kPanelRows; ++output) {
    for (int g = 0; g < 16; ++g) {
      out[PanelQ6K::kScales + g / 2 * 32 + output * 2 + g % 2] =
          static_cast<uint8_t>(rows[output].scale[g]);
    }
    put_halves(out + PanelQ6K::kD, output, rows[output].d);
  }
}

// Where a panel's parts lie, and how one block of 16 rows is written.
struct Layout {
  int32_t inputs = 1;  // of a block
  int32_t code_bytes = 0, scale_bytes = 0;
  bool min = false;
  void (*put_superblock)(const Panel16& rows, uint8_t* out) = nullptr;  // K types
};

Layout layout_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {1, 64};
    case DType::kF16:
    case DType::kBF16:
      return {1, 32};
    case DType::kQ4_0:
      return {32, PanelQ4::kCodes, kHalfRow};
    case DType::kQ4_1:
      return {32, PanelQ4::kCodes, 2 * kHalfRow, true};
    case DType::kQ5_0:
      return {32, PanelQ5::kCodes, kHalfRow};
    case DType::kQ5_1:
      return {32, PanelQ5::kCodes, 2 * kHalfRow, true};
    case DType::kQ8_0:
      return {32, PanelQ8::kCodes, kHalfRow};
    case DType::kQ4_K:
      return {256, PanelQ4K::kBytes, 0, false, pack_q4_k};
    case DType::kQ5_K:
      return {256, PanelQ5K::kBytes, 0, false, pack_q5_k};
    case DType::kQ6_K:
      return {256, PanelQ6K::kBytes, 0, false, pack_q6_k};
    default:
      break;
  }
  throw Error(ErrorKind::kUnsupported,
              "cpu: no matrix product for weights of type " + std::string(dtype_info(dtype).name));
}

void put_legacy(DType dtype, const Layout& layout, const Panel16& rows, uint8_t* codes,
                uint8_t* scales) {
  if (dtype == DType::kQ8_0) {
    each_output(rows, 0, [=](int output, const uint32_t* step) {
      for (int s = 0; s < 8; ++s) put_four(codes + s * 64, output, step[s]);
    });
  } else {
    put_nibbles(rows, 0, codes);
    if (layout.code_bytes == PanelQ5::kCodes) put_fifth_bits(rows, 0, codes + 256);
  }
  for (int output = 0; output < kPanelRows; ++output) {
    put_halves(scales, output, rows[output].d);
    if (layout.min) put_halves(scales + kHalfRow, output, -rows[output].dmin);
  }
}

void pack_float_panel(const HostMatrix& matrix, int64_t first_row, int64_t rows, uint8_t* out) {
  const int64_t size = dtype_info(matrix.dtype).block_bytes;
  for (int64_t row = 0; row < rows; ++row) {
    const std::byte* source = matrix.data + (first_row + row) * matrix.cols * size;
    for (int64_t k = 0; k < matrix.cols; ++k) {
      std::memcpy(out + (k * kPanelRows + row) * size, source + k * size,
                  static_cast<size_t>(size));
    }
  }
}

void pack_panel(const HostMatrix& matrix, const Layout& layout, int64_t panel, uint8_t* out) {
  const int64_t first_row = panel * kPanelRows;
  const int64_t rows = std::min<int64_t>(kPanelRows, matrix.rows - first_row);
  if (!is_quantized(matrix.dtype)) return pack_float_panel(matrix, first_row, rows, out);
  const int64_t blocks = matrix.cols / layout.inputs;
  const int64_t block_bytes = dtype_info(matrix.dtype).block_bytes;
  Panel16 unpacked = {};  // rows that do not exist stay zero: d = 0
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t row = 0; row < rows; ++row) {
      unpack_block(matrix.dtype, matrix.data + ((first_row + row) * blocks + b) * block_bytes,
                   unpacked[row]);
    }
    if (layout.put_superblock != nullptr) {
      layout.put_superblock(unpacked, out + b * layout.code_bytes);
    } else {
      put_legacy(matrix.dtype, layout, unpacked, out + b * layout.code_bytes,
                 out + blocks * layout.code_bytes + b * layout.scale_bytes);
    }
  }
}

}  // namespace

std::unique_ptr<CpuWeight> pack_panels(const HostMatrix& matrix, PageArena& arena,
                                       ThreadPool& pool) {
  const Layout layout = layout_of(matrix.dtype);
  const auto name = std::string(dtype_info(matrix.dtype).name);
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max() - kPanelRows;
  if (matrix.rows < 1 || matrix.cols < 1 || matrix.rows > kMost || matrix.cols > kMost ||
      matrix.data == nullptr) {
    throw Error(ErrorKind::kBadArgument, "cpu: a weight matrix of " + std::to_string(matrix.rows) +
                                             " x " + std::to_string(matrix.cols) +
                                             " cannot be packed");
  }
  if (matrix.cols % layout.inputs != 0) {
    throw Error(ErrorKind::kUnsupported, "cpu: " + name + " weights need a multiple of " +
                                             std::to_string(layout.inputs) + " inputs, found " +
                                             std::to_string(matrix.cols));
  }
  auto weight = std::make_unique<CpuWeight>();
  weight->dtype = matrix.dtype;
  weight->rows = static_cast<int32_t>(matrix.rows);
  weight->cols = static_cast<int32_t>(matrix.cols);
  weight->panels = (weight->rows + kPanelRows - 1) / kPanelRows;
  weight->blocks = weight->cols / layout.inputs;
  const int64_t exact = int64_t{weight->blocks} * (layout.code_bytes + layout.scale_bytes);
  weight->panel_bytes = (exact + 63) / 64 * 64;
  weight->bytes = weight->panel_bytes * weight->panels;
  weight->memory = arena.take(weight->bytes);
  pool.parallel_for(weight->panels, 4, [&](int64_t panel) {
    pack_panel(matrix, layout, panel, weight->memory.data + panel * weight->panel_bytes);
  });
  return weight;
}

}  // namespace forerun
