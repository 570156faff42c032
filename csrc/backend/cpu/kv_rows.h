#pragma once

#include <cstdint>
#include <span>

#include "backend/backend.h"
#include "backend/cpu/kernel_table.h"
#include "base/thread_pool.h"

namespace forerun {

// Error(kBadArgument) for a row whose sequence, slot or path lies outside the batch.
void check_rows(const AttentionBatch& batch);
// Error(kBadArgument) unless x has the batch's rows of `cols` values.
void check_shape(const char* what, const AttentionBatch& batch, const Tensor& x, int32_t cols);

// Writes and moves the keys and values of slots, for every type of KvLayout. Q8_0 codes come from
// KernelTable::quantize_32, the rule of all activations, with the scale rounded to a half float.
class KvRows {
 public:
  KvRows(const KernelTable& kernels, ThreadPool& pool) : kernels_(kernels), pool_(pool) {}

  // k, v: [rows, kv_heads * head_dim] into the rows' own slots
  void store(const AttentionBatch& batch, int32_t layer, Tensor k, Tensor v) const;
  // Backend::move_kv
  void move(const KvLayout& layout, std::span<std::byte* const> pages,
            std::span<const int32_t> from, std::span<const int32_t> to) const;

 private:
  void store_key(const KvLayout& layout, const float* key, std::byte* block, int32_t column) const;
  void store_value(const KvLayout& layout, const float* value, std::byte* block,
                   int32_t column) const;

  const KernelTable& kernels_;
  ThreadPool& pool_;
};

}  // namespace forerun
