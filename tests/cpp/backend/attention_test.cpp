#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "backend/cpu_fixture.h"

namespace forerun::test {
namespace {

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

AttentionRow causal_row(int32_t position) { return {0, position, position, position + 1, 0}; }

struct Model {
  int32_t heads, kv_heads, head_dim;
  int32_t q_cols() const { return heads * head_dim; }
  int32_t kv_cols() const { return kv_heads * head_dim; }
  KvLayout layout(int32_t layers = 1) const { return {layers, kv_heads, head_dim}; }
};

struct Text {  // q, k, v of a run of tokens
  std::vector<float> q, k, v;
  Text(const Model& model, int32_t tokens, uint64_t seed)
      : q(random_floats(static_cast<size_t>(tokens * model.q_cols()), seed)),
        k(random_floats(static_cast<size_t>(tokens * model.kv_cols()), seed + 1)),
        v(random_floats(static_cast<size_t>(tokens * model.kv_cols()), seed + 2)) {}
};

constexpr float kScale = 0.31F;

AttentionBatch batch_of(const Cache& cache, std::span<const AttentionRow> rows,
                        std::span<const int32_t> path,
                        std::span<const std::span<std::byte* const>> pages) {
  return {cache.layout, rows, path, pages};
}

// Tokens [first, first + count) of `text`, one forward.
std::vector<float> forward(Backend& backend, Cache& cache, const Model& model, Text& text,
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
std::vector<float> run_text(Backend& backend, Cache& cache, const Model& model, Text& text,
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

double half_of(float value) { return half_to_float(float_to_half(value)); }

// softmax(q k^T scale) v of one row and head, in double, with keys and values rounded to half.
std::vector<double> reference(const Model& model, const Text& text, int32_t row, int32_t head,
                              const std::vector<int32_t>& visible) {
  const int32_t kv_head = head / (model.heads / model.kv_heads);
  std::vector<double> weight;
  for (int32_t token : visible) {
    double score = 0.0;
    for (int32_t d = 0; d < model.head_dim; ++d) {
      score +=
          text.q[static_cast<size_t>(row * model.q_cols() + head * model.head_dim + d)] *
          half_of(
              text.k[static_cast<size_t>(token * model.kv_cols() + kv_head * model.head_dim + d)]);
    }
    weight.push_back(score * kScale);
  }
  const double most = *std::max_element(weight.begin(), weight.end());
  double sum = 0.0;
  for (double& w : weight) sum += w = std::exp(w - most);
  std::vector<double> out(static_cast<size_t>(model.head_dim), 0.0);
  for (size_t i = 0; i < visible.size(); ++i) {
    for (int32_t d = 0; d < model.head_dim; ++d) {
      out[static_cast<size_t>(d)] +=
          weight[i] / sum *
          half_of(text.v[static_cast<size_t>(visible[i] * model.kv_cols() +
                                             kv_head * model.head_dim + d)]);
    }
  }
  return out;
}

const std::vector<Model>& models() {
  static const std::vector<Model> all = {
      {6, 2, 64}, {9, 3, 16}, {2, 2, 80}, {12, 2, 128}, {1, 1, 6}};
  return all;
}

TEST(CpuAttention, EqualsTheSoftmaxInDouble) {
  constexpr int32_t kTokens = 150;
  for (const Model& model : models()) {
    Text text(model, kTokens, 5);
    for (const std::string& isa : instruction_sets()) {
      const auto backend = cpu_backend(isa, 2);
      Cache cache(*backend, model.layout(), 3);
      const std::vector<float> out = run_text(*backend, cache, model, text, kTokens, 50);
      for (int32_t row : {0, 1, 62, 63, 64, 65, 127, 128, 149}) {
        std::vector<int32_t> visible(static_cast<size_t>(row) + 1);
        std::iota(visible.begin(), visible.end(), 0);
        for (int32_t head = 0; head < model.heads; ++head) {
          const std::vector<double> want = reference(model, text, row, head, visible);
          for (int32_t d = 0; d < model.head_dim; ++d) {
            const float found =
                out[static_cast<size_t>(row * model.q_cols() + head * model.head_dim + d)];
            ASSERT_NEAR(found, want[static_cast<size_t>(d)], 2e-5)
                << isa << " row " << row << " head " << head;
          }
        }
      }
    }
  }
}

TEST(CpuAttention, GivesTheSameBitsForEveryChunkingThreadCountAndInstructionSet) {
  constexpr int32_t kTokens = 150;
  for (const Model& model : {Model{6, 2, 64}, Model{3, 3, 16}, Model{2, 2, 40}}) {
    Text text(model, kTokens, 15);
    std::vector<float> expected;
    for (const std::string& isa : instruction_sets()) {
      for (int threads = 1; threads <= 3; ++threads) {
        const auto backend = cpu_backend(isa, threads);
        for (int32_t chunk : {1, 7, 16, 77, 150}) {
          if (chunk == 1 && threads != 2) continue;
          if (isa == "scalar" && (chunk != 77 || threads == 3)) continue;
          Cache cache(*backend, model.layout(), 4);
          const std::vector<float> out = run_text(*backend, cache, model, text, kTokens, chunk);
          if (expected.empty()) expected = out;
          ASSERT_TRUE(same_bits(out.data(), expected.data(), out.size()))
              << isa << " threads " << threads << " chunk " << chunk << " head_dim "
              << model.head_dim;
        }
      }
    }
  }
}

// A random tree behind a prefix: every node's row must equal that of its own branch run causally.
TEST(CpuAttention, GivesATreeRowTheBitsOfItsBranchWrittenCausally) {
  const Model model{6, 2, 32};
  for (int32_t prefix : {0, 1, 50, 60, 64, 130}) {
    constexpr int32_t kNodes = 40;
    Text text(model, prefix + kNodes, 25);
    std::vector<int32_t> parent(kNodes, -1);
    std::mt19937 generator(static_cast<uint32_t>(prefix) + 3);
    for (int32_t i = 1; i < kNodes; ++i)
      parent[static_cast<size_t>(i)] = static_cast<int32_t>(generator() % i);
    for (int32_t i = 1; i < 12; ++i)
      parent[static_cast<size_t>(i)] = i - 1;  // deep enough to cross a page
    const auto scattered = [](int32_t node) {
      return (node * 7 + 3) % kNodes;
    };  // any slots will do
    std::vector<std::vector<int32_t>> branch(kNodes);
    std::vector<AttentionRow> rows;
    std::vector<int32_t> path;
    for (int32_t i = 0; i < kNodes; ++i) {
      if (i > 0)
        branch[static_cast<size_t>(i)] =
            branch[static_cast<size_t>(parent[static_cast<size_t>(i)])];
      branch[static_cast<size_t>(i)].push_back(i);
      AttentionRow row;
      row.position = prefix + static_cast<int32_t>(branch[static_cast<size_t>(i)].size()) - 1;
      row.slot = prefix + scattered(i);
      row.prefix = prefix;
      row.path_begin = static_cast<int32_t>(path.size());
      for (int32_t node : branch[static_cast<size_t>(i)]) path.push_back(prefix + scattered(node));
      rows.push_back(row);
    }
    for (const std::string& isa : instruction_sets()) {
      const auto backend = cpu_backend(isa, 2);
      Cache cache(*backend, model.layout(), 4);
      if (prefix > 0) run_text(*backend, cache, model, text, prefix, 64);
      const std::vector<float> out = forward(*backend, cache, model, text, prefix, rows, path);
      for (int32_t node = 0; node < kNodes; node += isa == "scalar" ? 9 : 2) {
        Text line(model, 0, 1);
        const auto append = [&](int32_t token) {
          const auto add = [token](std::vector<float>& to, const std::vector<float>& from,
                                   int32_t cols) {
            to.insert(to.end(), from.begin() + token * cols, from.begin() + (token + 1) * cols);
          };
          add(line.q, text.q, model.q_cols());
          add(line.k, text.k, model.kv_cols());
          add(line.v, text.v, model.kv_cols());
        };
        for (int32_t i = 0; i < prefix; ++i) append(i);
        for (int32_t ancestor : branch[static_cast<size_t>(node)]) append(prefix + ancestor);
        const int32_t length =
            prefix + static_cast<int32_t>(branch[static_cast<size_t>(node)].size());
        Cache fresh(*backend, model.layout(), 4);
        const std::vector<float> causal = run_text(*backend, fresh, model, line, length, length);
        ASSERT_TRUE(same_bits(out.data() + node * model.q_cols(),
                              causal.data() + (length - 1) * model.q_cols(),
                              static_cast<size_t>(model.q_cols())))
            << isa << " prefix " << prefix << " node " << node;
      }
    }
  }
}

TEST(CpuAttention, KeepsSequencesOfOneBatchApartAndReadsSharedPages) {
  const Model model{4, 2, 32};
  Text text(model, 80, 35);
  for (const std::string& isa : instruction_sets()) {
    const auto backend = cpu_backend(isa, 2);
    Cache first(*backend, model.layout(), 2);
    const std::vector<float> expected = run_text(*backend, first, model, text, 80, 80);
    Cache own(*backend, model.layout(), 2);
    run_text(*backend, own, model, text, 64, 64);
    Cache fork(*backend, model.layout(), 2);
    fork.pages[0] = own.pages[0];  // a fork shares the full page
    const std::span<std::byte* const> pages[2] = {own.pages, fork.pages};
    std::vector<AttentionRow> rows;
    std::vector<float> q, k, v;
    for (int32_t sequence = 0; sequence < 2; ++sequence) {
      const int32_t count = sequence == 0 ? 16 : 5;
      for (int32_t i = 64; i < 64 + count; ++i) {
        AttentionRow row = causal_row(i);
        row.sequence = sequence;
        rows.push_back(row);
        q.insert(q.end(), text.q.begin() + i * model.q_cols(),
                 text.q.begin() + (i + 1) * model.q_cols());
        k.insert(k.end(), text.k.begin() + i * model.kv_cols(),
                 text.k.begin() + (i + 1) * model.kv_cols());
        v.insert(v.end(), text.v.begin() + i * model.kv_cols(),
                 text.v.begin() + (i + 1) * model.kv_cols());
      }
    }
    const auto count = static_cast<int32_t>(rows.size());
    std::vector<float> out(q.size());
    const AttentionBatch batch = batch_of(own, rows, {}, pages);
    backend->store_kv(batch, 0, Tensor(k.data(), count, model.kv_cols()),
                      Tensor(v.data(), count, model.kv_cols()));
    backend->attention(batch, 0, Tensor(q.data(), count, model.q_cols()), kScale,
                       Tensor(out.data(), count, model.q_cols()));
    const float* tail = expected.data() + 64 * model.q_cols();
    EXPECT_TRUE(same_bits(out.data(), tail, static_cast<size_t>(16 * model.q_cols()))) << isa;
    EXPECT_TRUE(
        same_bits(out.data() + 16 * model.q_cols(), tail, static_cast<size_t>(5 * model.q_cols())))
        << isa;
  }
}

TEST(CpuAttention, NeverReadsSlotsThatTheRowDoesNotSee) {
  const Model model{2, 1, 32};
  Text text(model, 70, 45);
  for (const std::string& isa : instruction_sets()) {
    const auto backend = cpu_backend(isa, 1);
    Cache clean(*backend, model.layout(), 2);
    const std::vector<float> expected = run_text(*backend, clean, model, text, 70, 70);
    Cache dirty(*backend, model.layout(), 2);
    for (std::byte* page : dirty.pages) {
      for (int64_t i = 0; i < model.layout().page_bytes(); ++i) page[i] = std::byte{0x7F};  // NaN
    }
    const std::vector<float> out = run_text(*backend, dirty, model, text, 70, 1);
    EXPECT_TRUE(same_bits(out.data(), expected.data(), out.size())) << isa;
  }
}

TEST(CpuAttention, MovesSlotsOfAllLayersInOrder) {
  const Model model{2, 2, 16};
  for (const std::string& isa : instruction_sets()) {
    const auto backend = cpu_backend(isa, 2);
    Cache cache(*backend, model.layout(2), 2);
    Text text(model, 70, 55);
    std::vector<AttentionRow> rows;
    for (int32_t i = 0; i < 70; ++i) rows.push_back(causal_row(i));
    forward(*backend, cache, model, text, 0, rows, {}, 0);
    forward(*backend, cache, model, text, 0, rows, {}, 1);
    const std::vector<int32_t> from = {62, 65, 69};
    const std::vector<int32_t> to = {61, 62, 65};
    backend->move_kv(cache.layout, cache.pages, from, to);
    const auto key = [&](int32_t layer, int32_t head, int32_t slot, int32_t d) {
      const auto* keys = reinterpret_cast<const uint16_t*>(
          cache.pages[static_cast<size_t>(slot / 64)] + cache.layout.k_offset(layer, head));
      return keys[d * 64 + slot % 64];
    };
    const auto value = [&](int32_t layer, int32_t head, int32_t slot, int32_t d) {
      const auto* values = reinterpret_cast<const uint16_t*>(
          cache.pages[static_cast<size_t>(slot / 64)] + cache.layout.v_offset(layer, head));
      return values[slot % 64 * 16 + d];
    };
    for (size_t i = 0; i < from.size(); ++i) {
      for (int32_t index = 0; index < 2 * 2 * 16; ++index) {
        const int32_t layer = index / 32, head = index / 16 % 2, d = index % 16;
        const auto source = static_cast<size_t>(from[i] * model.kv_cols() + head * 16 + d);
        EXPECT_EQ(key(layer, head, to[i], d), float_to_half(text.k[source])) << isa;
        EXPECT_EQ(value(layer, head, to[i], d), float_to_half(text.v[source])) << isa;
      }
    }
  }
}

TEST(CpuAttention, RefusesRowsOutsideTheirPages) {
  const Model model{1, 1, 16};
  Text text(model, 1, 65);
  const auto backend = cpu_backend("scalar", 1);
  Cache cache(*backend, model.layout(), 1);
  const auto refused = [&](AttentionRow row, const std::vector<int32_t>& path = {}) {
    EXPECT_THROW(forward(*backend, cache, model, text, 0, {row}, path), Error);
  };
  refused({0, 64, 64, 65, 0});
  refused({0, -1, 0, 0, 0});
  refused({1, 0, 0, 1, 0});
  refused({0, 3, 3, 5, 0});
  refused({0, 1, 1, 1, 0});
  refused({0, 1, 1, 1, 0}, {64});
}

}  // namespace
}  // namespace forerun::test
