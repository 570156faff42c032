#pragma once

#include <cstdint>

// The operand of LDTILECFG (palette 1: eight tiles of at most 16 rows of 64 bytes), plain integers
// only: included by the instruction-set files.
namespace forerun {

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace forerun
