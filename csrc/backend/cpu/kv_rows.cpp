#include "backend/cpu/kv_rows.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/error.h"

namespace forerun {
namespace {

constexpr int32_t kSlots = KvLayout::kPageSlots;
constexpr int32_t kScaleBlock = KvLayout::kScaleBlock;

// Row `i` of a [count][64] array of cells, at one slot.
template <typename Cell>
Cell* cell_of(std::byte* block, int32_t column, int32_t i) {
  return reinterpret_cast<Cell*>(block) + i * kSlots + column;
}

// One column of a [count][64] array to a column of another.
template <typename Cell>
void move_column(const std::byte* from, int32_t from_column, std::byte* to, int32_t to_column,
                 int32_t count) {
  const auto* source = reinterpret_cast<const Cell*>(from) + from_column;
  auto* target = reinterpret_cast<Cell*>(to) + to_column;
  for (int32_t i = 0; i < count; ++i) target[i * kSlots] = source[i * kSlots];
}

void move_key(const KvLayout& layout, const std::byte* from, int32_t from_column, std::byte* to,
              int32_t to_column) {
  if (layout.type == DType::kF16) {
    move_column<uint16_t>(from, from_column, to, to_column, layout.head_dim);
  } else {  // a float, or four codes
    const int32_t cells = layout.head_dim * layout.value_bytes() / 4;
    move_column<uint32_t>(from, from_column, to, to_column, cells);
  }
}

void move_value(const KvLayout& layout, const std::byte* from, int32_t from_column, std::byte* to,
                int32_t to_column) {
  const int64_t bytes = int64_t{layout.head_dim} * layout.value_bytes();
  std::memcpy(to + to_column * bytes, from + from_column * bytes, static_cast<size_t>(bytes));
}

void move_scales(const KvLayout& layout, const std::byte* from, int32_t from_column, std::byte* to,
                 int32_t to_column) {
  move_column<uint16_t>(from + layout.scale_offset(), from_column, to + layout.scale_offset(),
                        to_column, layout.scales());
}

// A column of a key lies in the same line of all its rows of cells.
int32_t cell_bytes(const KvLayout& layout) { return layout.type == DType::kF16 ? 2 : 4; }
int64_t line_of(const KvLayout& layout, int32_t column) {
  return int64_t{column} * cell_bytes(layout) / 64 * 64;
}
void prefetch_key(const KvLayout& layout, const std::byte* first) {
  const int64_t row_bytes = int64_t{kSlots} * cell_bytes(layout);
  for (int64_t at = 0; at < layout.scale_offset(); at += row_bytes) {
    __builtin_prefetch(first + at, 1, 3);
  }
}

}  // namespace

void check_rows(const AttentionBatch& batch) {
  for (size_t i = 0; i < batch.rows.size(); ++i) {
    const AttentionRow& row = batch.rows[i];
    const auto refuse = [&](const char* what) {
      throw Error(ErrorKind::kBadArgument, "attention: row " + std::to_string(i) + " (position " +
                                               std::to_string(row.position) + ", prefix " +
                                               std::to_string(row.prefix) + ", slot " +
                                               std::to_string(row.slot) + "): " + what);
    };
    if (row.sequence < 0 || static_cast<size_t>(row.sequence) >= batch.pages.size())
      refuse("no such sequence");
    const auto slots =
        static_cast<int64_t>(batch.pages[static_cast<size_t>(row.sequence)].size()) * kSlots;
    if (row.position < 0 || row.prefix < 0 || row.prefix > row.position + 1)
      refuse("position and prefix disagree");
    if (row.slot < 0 || row.slot >= slots || row.prefix > slots)
      refuse("a slot outside the sequence's pages");
    const int64_t path = int64_t{row.position} + 1 - row.prefix;
    if (path == 0) continue;
    if (row.path_begin < 0 || row.path_begin + path > static_cast<int64_t>(batch.path.size())) {
      refuse("its path is outside the batch's");
    }
    for (int64_t p = 0; p < path; ++p) {
      const int32_t slot = batch.path[static_cast<size_t>(row.path_begin + p)];
      if (slot < 0 || slot >= slots) refuse("a path slot outside the sequence's pages");
    }
  }
}

void check_shape(const char* what, const AttentionBatch& batch, const Tensor& x, int32_t cols) {
  if (x.rows == static_cast<int32_t>(batch.rows.size()) && x.cols == cols) return;
  throw Error(ErrorKind::kBadArgument, std::string(what) + ": expected " +
                                           std::to_string(batch.rows.size()) + " x " +
                                           std::to_string(cols) + ", found " +
                                           std::to_string(x.rows) + " x " + std::to_string(x.cols));
}

void KvRows::store_key(const KvLayout& layout, const float* key, std::byte* block,
                       int32_t column) const {
  for (int32_t first = 0; first < layout.head_dim; first += kScaleBlock) {
    const int32_t count = std::min(kScaleBlock, layout.head_dim - first);
    if (layout.type == DType::kQ8_0) {
      Activation32 codes;
      kernels_.quantize_32(key + first, 1, &codes, 1);
      for (int32_t i = 0; i < kScaleBlock; i += 4) {
        std::memcpy(cell_of<uint32_t>(block, column, (first + i) / 4), codes.code + i, 4);
      }
      kernels_.to_half(
          &codes.d, 1,
          cell_of<uint16_t>(block + layout.scale_offset(), column, first / kScaleBlock));
    } else if (layout.type == DType::kF32) {
      for (int32_t i = 0; i < count; ++i)
        *cell_of<float>(block, column, first + i) = key[first + i];
    } else {
      uint16_t half[kScaleBlock];
      kernels_.to_half(key + first, count, half);
      for (int32_t i = 0; i < count; ++i) *cell_of<uint16_t>(block, column, first + i) = half[i];
    }
  }
}

void KvRows::store_value(const KvLayout& layout, const float* value, std::byte* block,
                         int32_t column) const {
  std::byte* row = block + int64_t{column} * layout.head_dim * layout.value_bytes();
  if (layout.type == DType::kF16) {
    kernels_.to_half(value, layout.head_dim, reinterpret_cast<uint16_t*>(row));
  } else if (layout.type == DType::kF32) {
    std::memcpy(row, value, sizeof(float) * static_cast<size_t>(layout.head_dim));
  }
  for (int32_t i = 0; i < layout.scales(); ++i) {
    Activation32 codes;
    kernels_.quantize_32(value + i * kScaleBlock, 1, &codes, 1);
    std::memcpy(row + i * kScaleBlock, codes.code, kScaleBlock);
    kernels_.to_half(&codes.d, 1, cell_of<uint16_t>(block + layout.scale_offset(), column, i));
  }
}

void KvRows::store(const AttentionBatch& batch, int32_t layer, Tensor k, Tensor v) const {
  const KvLayout& layout = batch.layout;
  check_rows(batch);
  check_shape("store_kv, keys", batch, k, layout.kv_heads * layout.head_dim);
  check_shape("store_kv, values", batch, v, layout.kv_heads * layout.head_dim);
  const auto page_of = [&](int32_t i) {
    const AttentionRow& row = batch.rows[static_cast<size_t>(i)];
    return batch.pages[static_cast<size_t>(row.sequence)][static_cast<size_t>(row.slot / kSlots)];
  };
  // A key goes to a cache line for each value, last written a step ago: without this one by one.
  const auto ask_for = [&](int32_t head) {
    const std::byte* asked = nullptr;
    for (int32_t i = 0; i < k.rows; ++i) {
      const std::byte* page = page_of(i);
      const int32_t column = batch.rows[static_cast<size_t>(i)].slot % kSlots;
      const std::byte* key = page + layout.k_offset(layer, head) + line_of(layout, column);
      if (key == asked) continue;
      asked = key;
      prefetch_key(layout, key);
    }
  };
  const auto store_head = [&](int64_t item) {
    const auto head = static_cast<int32_t>(item);
    for (int32_t i = 0; i < k.rows; ++i) {
      std::byte* page = page_of(i);
      const int32_t column = batch.rows[static_cast<size_t>(i)].slot % kSlots;
      store_key(layout, k.row(i) + head * layout.head_dim, page + layout.k_offset(layer, head),
                column);
      store_value(layout, v.row(i) + head * layout.head_dim, page + layout.v_offset(layer, head),
                  column);
    }
  };
  if (k.rows < 32) {
    for (int32_t head = 0; head < layout.kv_heads; ++head) ask_for(head);
    for (int32_t head = 0; head < layout.kv_heads; ++head) store_head(head);
    return;
  }
  pool_.parallel_for(layout.kv_heads, 1, store_head);
}

void KvRows::move(const KvLayout& layout, std::span<std::byte* const> pages,
                  std::span<const int32_t> from, std::span<const int32_t> to) const {
  const auto slots = static_cast<int64_t>(pages.size()) * kSlots;
  for (size_t i = 0; i < from.size(); ++i) {
    if (i >= to.size() || from[i] < 0 || from[i] >= slots || to[i] < 0 || to[i] >= slots) {
      throw Error(ErrorKind::kBadArgument, "move_kv: move " + std::to_string(i) + " leaves the " +
                                               std::to_string(slots) + " slots of the sequence");
    }
  }
  const auto move_head = [&](int64_t item) {
    const auto layer = static_cast<int32_t>(item / layout.kv_heads);
    const auto head = static_cast<int32_t>(item % layout.kv_heads);
    const int64_t k = layout.k_offset(layer, head), v = layout.v_offset(layer, head);
    for (size_t i = 0; i < from.size(); ++i) {
      if (from[i] == to[i]) continue;
      const std::byte* source = pages[static_cast<size_t>(from[i] / kSlots)];
      std::byte* target = pages[static_cast<size_t>(to[i] / kSlots)];
      const int32_t old_column = from[i] % kSlots, column = to[i] % kSlots;
      move_key(layout, source + k, old_column, target + k, column);
      move_value(layout, source + v, old_column, target + v, column);
      move_scales(layout, source + k, old_column, target + k, column);
      move_scales(layout, source + v, old_column, target + v, column);
    }
  };
  pool_.parallel_for(int64_t{layout.layers} * layout.kv_heads, 8, move_head);
}

}  // namespace forerun
