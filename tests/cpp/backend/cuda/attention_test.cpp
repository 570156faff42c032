// Attention, its cache and the commit of a path on the GPU: against the CPU back end, and against
// itself.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "backend/cuda/fixture.h"

namespace forerun::cuda_test {
namespace {

// One or more sequences in the memory of a back end.
class Cache {
 public:
  Cache(Backend& backend, KvLayout layout, int32_t sequences, int32_t slots)
      : backend_(backend), layout_(layout) {
    for (int32_t sequence = 0; sequence < sequences; ++sequence) {
      auto& pages = page_.emplace_back();
      for (int32_t slot = 0; slot < slots; slot += KvLayout::kPageSlots) {
        memory_.push_back(backend.allocate(layout.page_bytes()));
        pages.push_back(static_cast<std::byte*>(memory_.back().data()));
      }
    }
    for (const auto& pages : page_) spans_.emplace_back(pages);
  }

  void store(const std::vector<AttentionRow>& rows, int32_t layer, const std::vector<float>& k,
             const std::vector<float>& v) {
    const auto count = static_cast<int64_t>(rows.size());
    const Rows on_k(backend_, k, count), on_v(backend_, v, count);
    backend_.store_kv({layout_, rows, {}, spans_}, layer, on_k.tensor, on_v.tensor);
  }

  // Stores and attends; returns the attention of the rows.
  std::vector<float> attend(const std::vector<AttentionRow>& rows, const std::vector<int32_t>& path,
                            int32_t layer, const std::vector<float>& q, const std::vector<float>& k,
                            const std::vector<float>& v) {
    const auto count = static_cast<int64_t>(rows.size());
    const Rows on_q(backend_, q, count), on_k(backend_, k, count), on_v(backend_, v, count);
    const Rows out(backend_, count, on_q.tensor.cols);
    const AttentionBatch batch{layout_, rows, path, spans_};
    backend_.store_kv(batch, layer, on_k.tensor, on_v.tensor);
    backend_.attention(batch, layer, on_q.tensor,
                       1.0F / std::sqrt(static_cast<float>(layout_.head_dim)), out.tensor);
    return out.values();
  }

  void move(const std::vector<int32_t>& from, const std::vector<int32_t>& to) {
    backend_.move_kv(layout_, spans_[0], from, to);
  }

 private:
  Backend& backend_;
  KvLayout layout_;
  std::vector<Buffer> memory_;
  std::vector<std::vector<std::byte*>> page_;
  std::vector<std::span<std::byte* const>> spans_;
};

std::vector<AttentionRow> causal_rows(int32_t first, int32_t count, int32_t sequence = 0) {
  std::vector<AttentionRow> rows;
  for (int32_t i = first; i < first + count; ++i) rows.push_back({sequence, i, i, i + 1, 0});
  return rows;
}

std::vector<float> slice(const std::vector<float>& values, int64_t width, int64_t first,
                         int64_t count) {
  return {values.begin() + first * width, values.begin() + (first + count) * width};
}

TEST_F(Cuda, AttentionMatchesTheCpuForManyShapesOfHeads) {
  struct Shape {
    int32_t kv_heads, group, head_dim;
  };
  for (const Shape shape : {Shape{3, 3, 64}, Shape{1, 1, 16}, Shape{2, 7, 128}, Shape{2, 4, 80},
                            Shape{1, 8, 256}, Shape{2, 5, 34}}) {
    const KvLayout layout{2, shape.kv_heads, shape.head_dim};
    const int64_t kv = int64_t{shape.kv_heads} * shape.head_dim;
    const int32_t count = shape.head_dim == 64 ? (emulated() ? 540 : 700) : emulated() ? 100 : 300;
    const auto q = random_floats(count * kv * shape.group, 3, 2.0F),
               k = random_floats(count * kv, 4), v = random_floats(count * kv, 5);
    std::vector<AttentionRow> rows = causal_rows(0, count / 2, 1);
    const std::vector<AttentionRow> others = causal_rows(0, count - count / 2, 0);
    rows.insert(rows.begin(), others.begin(), others.end());
    Cache on_gpu(gpu(), layout, 2, count), on_cpu(cpu(), layout, 2, count);
    on_gpu.store(rows, 1, k, v);
    on_cpu.store(rows, 1, k, v);
    std::vector<AttentionRow> some;
    std::vector<float> some_q, some_k, some_v;
    for (int32_t i = 0; i < count; i += emulated() && i + 9 < count ? 9 : 1) {
      const auto take = [i](std::vector<float>& to, const std::vector<float>& from, int64_t width) {
        to.insert(to.end(), from.begin() + i * width, from.begin() + (i + 1) * width);
      };
      some.push_back(rows[static_cast<size_t>(i)]);
      take(some_q, q, kv * shape.group);
      take(some_k, k, kv);
      take(some_v, v, kv);
    }
    const double error = relative_error(on_gpu.attend(some, {}, 1, some_q, some_k, some_v),
                                        on_cpu.attend(some, {}, 1, some_q, some_k, some_v));
    EXPECT_LT(error, 2e-6) << shape.kv_heads << " x " << shape.group << " heads of "
                           << shape.head_dim;
  }
}

// A prompt of `length`, then a random tree in scratch slots. Every node's bits are those of plain
// decoding along its path, and after the commit of a path the next row sees the same cache.
TEST_F(Cuda, TreeRowsHaveTheBitsOfPlainDecoding) {
  const KvLayout layout{1, 2, 64};
  constexpr int32_t kGroup = 3, kNodes = 40;
  constexpr int64_t kKv = 128, kQ = kKv * kGroup;
  for (const int32_t length : {1, 30, 63, 64, 250, 256, 500}) {
    if (emulated() && (length == 30 || length == 64 || length == 500)) continue;
    std::mt19937 random(static_cast<uint32_t>(length));
    const int32_t total = length + kNodes;
    const auto q = random_floats(total * kQ, 7, 2.0F), k = random_floats(total * kKv, 8),
               v = random_floats(total * kKv, 9);
    Cache tree(gpu(), layout, 1, total + 64);
    const auto prompt = causal_rows(0, length);
    tree.store(prompt, 0, slice(k, kKv, 0, length), slice(v, kKv, 0, length));

    std::vector<int32_t> parent(kNodes, -1), path;
    std::vector<std::vector<int32_t>> ancestors(kNodes);
    std::vector<AttentionRow> rows;
    for (int32_t node = 0; node < kNodes; ++node) {
      if (node > 0) {
        parent[static_cast<size_t>(node)] =
            std::max<int32_t>(0, node - 1 - static_cast<int32_t>(random() % 3));
        ancestors[static_cast<size_t>(node)] =
            ancestors[static_cast<size_t>(parent[static_cast<size_t>(node)])];
      }
      auto& own = ancestors[static_cast<size_t>(node)];
      own.push_back(node);
      const auto depth = static_cast<int32_t>(own.size());
      rows.push_back(
          {0, length + depth - 1, length + node, length, static_cast<int32_t>(path.size())});
      for (const int32_t ancestor : own) path.push_back(length + ancestor);
    }
    const auto wanted = tree.attend(rows, path, 0, slice(q, kQ, length, kNodes),
                                    slice(k, kKv, length, kNodes), slice(v, kKv, length, kNodes));
    for (const int32_t node : {0, 1, 17, kNodes - 1}) {
      if (emulated() && node == 17) continue;
      const auto& own = ancestors[static_cast<size_t>(node)];
      Cache plain(gpu(), layout, 1, total + 64);
      plain.store(prompt, 0, slice(k, kKv, 0, length), slice(v, kKv, 0, length));
      std::vector<float> last;
      for (size_t i = 0; i < own.size(); ++i) {
        const int64_t at = length + own[i];
        last = plain.attend(causal_rows(length + static_cast<int32_t>(i), 1), {}, 0,
                            slice(q, kQ, at, 1), slice(k, kKv, at, 1), slice(v, kKv, at, 1));
      }
      ASSERT_TRUE(same_bits(last, slice(wanted, kQ, node, 1)))
          << "length " << length << " node " << node;
      if (node != kNodes - 1) continue;
      std::vector<int32_t> from, to;
      for (size_t i = 0; i < own.size(); ++i) {
        from.push_back(length + own[i]);
        to.push_back(length + static_cast<int32_t>(i));
      }
      tree.move(from, to);
      const auto next = causal_rows(length + static_cast<int32_t>(own.size()), 1);
      const auto one_q = slice(q, kQ, 0, 1), one_k = slice(k, kKv, 0, 1),
                 one_v = slice(v, kKv, 0, 1);
      EXPECT_TRUE(same_bits(tree.attend(next, {}, 0, one_q, one_k, one_v),
                            plain.attend(next, {}, 0, one_q, one_k, one_v)));
    }
  }
}

TEST_F(Cuda, AttentionOfARowDoesNotDependOnTheOthers) {
  const KvLayout layout{1, 1, 128};
  const int32_t count = emulated() ? 270 : 600;
  const auto q = random_floats(count * 512, 3, 2.0F), k = random_floats(count * 128, 4),
             v = random_floats(count * 128, 5);
  Cache cache(gpu(), layout, 1, count), chunked(gpu(), layout, 1, count);
  const auto together = cache.attend(causal_rows(0, count), {}, 0, q, k, v);
  for (int32_t first = 0, step = 1; first < count; first += step, step = step * 3 + 1) {
    const int32_t rows = std::min(step, count - first);
    const auto part = chunked.attend(causal_rows(first, rows), {}, 0, slice(q, 512, first, rows),
                                     slice(k, 128, first, rows), slice(v, 128, first, rows));
    ASSERT_TRUE(same_bits(part, slice(together, 512, first, rows))) << "rows from " << first;
  }
}

}  // namespace
}  // namespace forerun::cuda_test
