#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"

namespace forerun::test {

inline const std::vector<DType>& kv_types() {
  static const std::vector<DType> types = {DType::kF16, DType::kF32, DType::kQ8_0};
  return types;
}

// The bytes of one slot in a page, found by the description of KvLayout alone: for every layer and
// head its key, its value, then the scales of both.
template <typename Byte>  // std::byte or const std::byte
std::vector<Byte*> slot_bytes(const KvLayout& layout, Byte* page, int32_t slot) {
  const int32_t width = layout.type == DType::kF32 ? 4 : layout.type == DType::kF16 ? 2 : 1;
  const int32_t scales = layout.type == DType::kQ8_0 ? layout.head_dim / 32 : 0;
  const int64_t codes = int64_t{64} * layout.head_dim * width;
  const int64_t block = codes + int64_t{64} * 2 * scales;
  std::vector<Byte*> bytes;
  for (int32_t layer = 0; layer < layout.layers; ++layer) {
    for (int32_t head = 0; head < layout.kv_heads; ++head) {
      Byte* k = page + (2 * layer * layout.kv_heads + head) * block;
      Byte* v = page + ((2 * layer + 1) * layout.kv_heads + head) * block;
      for (int32_t d = 0; d < layout.head_dim; ++d) {
        for (int32_t i = 0; i < width; ++i) {
          bytes.push_back(layout.type == DType::kQ8_0 ? k + (d / 4 * 64 + slot) * 4 + d % 4
                                                      : k + (d * 64 + slot) * width + i);
        }
      }
      for (int32_t i = 0; i < layout.head_dim * width; ++i) {
        bytes.push_back(v + slot * layout.head_dim * width + i);
      }
      for (int32_t i = 0; i < 2 * scales; ++i) {
        bytes.push_back(k + codes + (i / 2 * 64 + slot) * 2 + i % 2);
        bytes.push_back(v + codes + (i / 2 * 64 + slot) * 2 + i % 2);
      }
    }
  }
  return bytes;
}

template <typename Byte>
std::vector<std::byte> slot_content(const KvLayout& layout, Byte* page, int32_t slot) {
  std::vector<std::byte> content;
  for (const Byte* byte : slot_bytes(layout, page, slot)) content.push_back(*byte);
  return content;
}

}  // namespace forerun::test
