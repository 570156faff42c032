#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "backend/cpu/tile_config.h"

// The tile operations of tiles_amx.h in plain C++, after the instruction descriptions in Intel's
// Architecture Instruction Set Extensions Programming Reference (chapter AMX). What the processor
// would answer with #UD or #GP ends the test program.
namespace forerun {
namespace {

struct EmulatedTiles {
  bool configured;
  int rows[8], row_bytes[8];
  uint8_t data[8][16][64];
};
thread_local EmulatedTiles emulated;  // zero: not configured

inline void require(bool holds, const char* rule) {
  if (holds) return;
  std::fprintf(stderr, "emulated tiles: the processor would fault: %s\n", rule);
  std::abort();
}

template <int kTile>
void require_tile() {
  static_assert(kTile >= 0 && kTile < 8);
  require(emulated.configured, "no tile configuration is loaded");
  require(emulated.rows[kTile] > 0 && emulated.row_bytes[kTile] > 0, "a tile of no size");
}

inline void tile_release() { std::memset(&emulated, 0, sizeof(emulated)); }

// Also a fault here, though not of the processor: a run that kept its tiles.
inline void tile_configure(const TileConfig& config) {
  require(!emulated.configured, "(not a fault) the last run did not give its tiles back");
  if (config.palette == 0) return;
  require(config.palette == 1, "palette");
  require(config.start_row == 0, "a start row, which only an interrupted load has");
  for (uint8_t byte : config.reserved) require(byte == 0, "reserved bytes of the configuration");
  for (int tile = 0; tile < 16; ++tile) {
    const int rows = config.rows[tile];
    const int bytes = config.row_bytes[tile];
    require((rows == 0) == (bytes == 0), "rows without bytes, or bytes without rows");
    require(tile < 8 || rows == 0, "palette 1 has eight tiles");
    require(rows <= 16 && bytes <= 64, "palette 1 has 16 rows of 64 bytes");
    if (tile >= 8) continue;
    emulated.rows[tile] = rows;
    emulated.row_bytes[tile] = bytes;
  }
  emulated.configured = true;
}

template <int kTile>
void tile_zero() {
  require_tile<kTile>();
  std::memset(emulated.data[kTile], 0, sizeof(emulated.data[kTile]));
}

// What lies outside the configured rows and bytes becomes zero.
template <int kTile>
void tile_load(const void* data, int64_t stride) {
  require_tile<kTile>();
  std::memset(emulated.data[kTile], 0, sizeof(emulated.data[kTile]));
  for (int row = 0; row < emulated.rows[kTile]; ++row) {
    std::memcpy(emulated.data[kTile][row], static_cast<const uint8_t*>(data) + row * stride,
                static_cast<size_t>(emulated.row_bytes[kTile]));
  }
}

template <int kTile>
void tile_store(void* data, int64_t stride) {
  require_tile<kTile>();
  for (int row = 0; row < emulated.rows[kTile]; ++row) {
    std::memcpy(static_cast<uint8_t*>(data) + row * stride, emulated.data[kTile][row],
                static_cast<size_t>(emulated.row_bytes[kTile]));
  }
}

template <int kSum, int kA, int kB, typename Weight>
void tile_dot() {
  require_tile<kSum>();
  require_tile<kA>();
  require_tile<kB>();
  static_assert(kSum != kA && kSum != kB && kA != kB, "#UD: a tile twice");
  const EmulatedTiles& t = emulated;
  require(t.row_bytes[kSum] % 4 == 0 && t.row_bytes[kA] % 4 == 0 && t.row_bytes[kB] % 4 == 0,
          "rows of a product hold whole groups of four bytes");
  require(t.rows[kSum] == t.rows[kA], "rows of the sum and of its first factor");
  require(t.row_bytes[kSum] == t.row_bytes[kB], "columns of the sum and of its second factor");
  require(t.row_bytes[kA] / 4 == t.rows[kB], "depth of the factors");
  uint8_t result[16][64] = {};
  for (int row = 0; row < t.rows[kSum]; ++row) {
    for (int lane = 0; lane < t.row_bytes[kSum] / 4; ++lane) {
      uint32_t sum;
      std::memcpy(&sum, &t.data[kSum][row][4 * lane], sizeof(sum));
      for (int k = 0; k < t.rows[kB]; ++k) {
        for (int i = 0; i < 4; ++i) {
          const int a = static_cast<int8_t>(t.data[kA][row][4 * k + i]);
          const int b = static_cast<Weight>(t.data[kB][k][4 * lane + i]);
          sum += static_cast<uint32_t>(a * b);
        }
      }
      std::memcpy(&result[row][4 * lane], &sum, sizeof(sum));
    }
  }
  std::memcpy(emulated.data[kSum], result, sizeof(result));
}

template <int kSum, int kA, int kB>
void tile_dot_unsigned() {
  tile_dot<kSum, kA, kB, uint8_t>();
}
template <int kSum, int kA, int kB>
void tile_dot_signed() {
  tile_dot<kSum, kA, kB, int8_t>();
}

}  // namespace
}  // namespace forerun
