#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "backend/cpu_fixture.h"

namespace forerun::test::attention {

// A sequence's pages and the batch that reads them.
struct Cache {
  KvLayout layout;
  std::vector<Buffer> buffers;
  std::vector<std::byte*> pages;

  Cache(Backend& backend, KvLayout layout, int32_t page_count) : layout(layout) {
    for (int32_t i = 0; i < page_count; ++i) {
      buffers.push_back(backend.allocate(layout.page_bytes()));
      pages.push_back(static_cast<std::byte*>(buffers.back().data()));
    }
  }
};

inline AttentionRow causal_row(int32_t position) {
  return {0, position, position, position + 1, 0};
}

struct Model {
  int32_t heads, kv_heads, head_dim;
  DType type = DType::kF16;  // of keys and values
  int32_t q_cols() const { return heads * head_dim; }
  int32_t kv_cols() const { return kv_heads * head_dim; }
  KvLayout layout(int32_t layers = 1) const { return {layers, kv_heads, head_dim, type}; }
};

struct Text {  // q, k, v of a run of tokens
  std::vector<float> q, k, v;
  Text(const Model& model, int32_t tokens, uint64_t seed)
      : q(random_floats(static_cast<size_t>(tokens * model.q_cols()), seed)),
        k(random_floats(static_cast<size_t>(tokens * model.kv_cols()), seed + 1)),
        v(random_floats(static_cast<size_t>(tokens * model.kv_cols()), seed + 2)) {}
};

inline constexpr float kScale = 0.31F;

inline AttentionBatch batch_of(const Cache& cache, std::span<const AttentionRow> rows,
                               std::span<const int32_t> path,
                               std::span<const std::span<std::byte* const>> pages) {
  return {cache.layout, rows, path, pages};
}

// Tokens [first, first + count) of `text`, one forward.
inline std::vector<float> forward(Backend& backend, Cache& cache, const Model& model, Text& text,
                                  int32_t first, std::vector<AttentionRow> rows,
                                  const std::vector<int32_t>& path = {}, int32_t layer = 0) {
  const std::span<std::byte* const> pages(cache.pages);
  const AttentionBatch batch = batch_of(cache, rows, path, {&pages, 1});
  const auto count = static_cast<int32_t>(rows.size());
  std::vector<float> out(rows.size() * static_cast<size_t>(model.q_cols()));
  backend.store_kv(batch, layer,
                   Tensor(text.k.data() + first * model.kv_cols(), count, model.kv_cols()),
                   Tensor(text.v.data() + first * model.kv_cols(), count, model.kv_cols()));
  backend.attention(batch, layer,
                    Tensor(text.q.data() + first * model.q_cols(), count, model.q_cols()), kScale,
                    Tensor(out.data(), count, model.q_cols()));
  return out;
}

// The whole text causally, `chunk` rows at a time.
inline std::vector<float> run_text(Backend& backend, Cache& cache, const Model& model, Text& text,
                                   int32_t tokens, int32_t chunk) {
  std::vector<float> all;
  for (int32_t first = 0; first < tokens; first += chunk) {
    std::vector<AttentionRow> rows;
    for (int32_t i = first; i < std::min(first + chunk, tokens); ++i) rows.push_back(causal_row(i));
    const std::vector<float> out = forward(backend, cache, model, text, first, rows);
    all.insert(all.end(), out.begin(), out.end());
  }
  return all;
}

}  // namespace forerun::test::attention
