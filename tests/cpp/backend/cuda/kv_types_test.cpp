// Keys and values of every type on the GPU: the bytes that the CPU back end stores, and attention
// over what these bytes stand for.
#include <cmath>

#include "backend/cuda/fixture.h"
#include "backend/kv_slots.h"
#include "base/error.h"

namespace forerun::cuda_test {
namespace {

constexpr int32_t kSlots = KvLayout::kPageSlots;

struct Pages {
  Pages(Backend& on, const KvLayout& layout, int32_t count) : backend(&on), layout(layout) {
    for (int32_t i = 0; i < count; ++i) {
      memory.push_back(on.allocate(layout.page_bytes()));
      pages.push_back(static_cast<std::byte*>(memory.back().data()));
    }
    span = pages;
  }
  std::vector<std::byte> bytes(int32_t page) const {
    std::vector<std::byte> out(static_cast<size_t>(layout.page_bytes()));
    backend->download(out.data(), pages[static_cast<size_t>(page)], layout.page_bytes());
    return out;
  }
  AttentionBatch batch(const std::vector<AttentionRow>& rows, const std::vector<int32_t>& path) {
    return {layout, rows, path, {&span, 1}};
  }

  Backend* backend;
  KvLayout layout;
  std::vector<Buffer> memory;
  std::vector<std::byte*> pages;
  std::span<std::byte* const> span;
};

// Value d of a key or a value in a block, as KvLayout describes it.
double value_of(const KvLayout& layout, const std::byte* block, bool key, int32_t slot, int32_t d) {
  if (layout.type == DType::kQ8_0) {
    uint16_t scale;
    std::memcpy(&scale, block + layout.scale_offset() + (d / 32 * kSlots + slot) * 2, 2);
    const int64_t at = key ? (d / 4 * kSlots + slot) * 4 + d % 4 : slot * layout.head_dim + d;
    return static_cast<double>(half_to_float(scale)) * static_cast<int8_t>(block[at]);
  }
  const int64_t at = key ? d * kSlots + slot : slot * layout.head_dim + d;
  if (layout.type == DType::kF32) {
    float value;
    std::memcpy(&value, block + 4 * at, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, block + 2 * at, 2);
  return half_to_float(half);
}

// Attention of one head in double.
std::vector<double> attend(const Pages& cache, int32_t layer, int32_t kv_head, const float* q,
                           const std::vector<int32_t>& slots, double scale) {
  const KvLayout& layout = cache.layout;
  std::vector<std::vector<std::byte>> pages;
  for (size_t i = 0; i < cache.pages.size(); ++i)
    pages.push_back(cache.bytes(static_cast<int32_t>(i)));
  std::vector<double> weight, out(static_cast<size_t>(layout.head_dim), 0.0);
  double most = -INFINITY, sum = 0.0;
  for (const int32_t slot : slots) {
    const std::byte* block =
        pages[static_cast<size_t>(slot / kSlots)].data() + layout.k_offset(layer, kv_head);
    double score = 0.0;
    for (int32_t d = 0; d < layout.head_dim; ++d)
      score += q[d] * value_of(layout, block, true, slot % kSlots, d);
    weight.push_back(score * scale);
    most = std::max(most, weight.back());
  }
  for (double& one : weight) sum += one = std::exp(one - most);
  for (size_t i = 0; i < slots.size(); ++i) {
    const std::byte* block =
        pages[static_cast<size_t>(slots[i] / kSlots)].data() + layout.v_offset(layer, kv_head);
    for (int32_t d = 0; d < layout.head_dim; ++d) {
      out[static_cast<size_t>(d)] +=
          weight[i] / sum * value_of(layout, block, false, slots[i] % kSlots, d);
    }
  }
  return out;
}

TEST_F(Cuda, StoresAndReadsKeysAndValuesOfEveryType) {
  for (const DType type : test::kv_types()) {
    for (const int32_t head_dim : {32, 64, 96, 256}) {
      const KvLayout layout{2, 2, head_dim, type};
      constexpr int32_t kRows = 150, kLayer = 1, kHeads = 6, kTree = 3;
      const int64_t width = int64_t{2} * head_dim;
      const auto k = random_floats((kRows + kTree) * width, 3),
                 v = random_floats((kRows + kTree) * width, 4),
                 q = random_floats((kRows + kTree) * kHeads * head_dim, 5);
      // A prompt, and after it a tree: two children of its root in slots that are not their
      // positions.
      std::vector<AttentionRow> rows;
      for (int32_t i = 0; i < kRows; ++i) rows.push_back({0, i, i, i + 1, 0});
      const std::vector<int32_t> path = {kRows, kRows, kRows + 1, kRows, kRows + 2};
      rows.push_back({0, kRows, kRows, kRows, 0});
      rows.push_back({0, kRows + 1, kRows + 1, kRows, 1});
      rows.push_back({0, kRows + 1, kRows + 2, kRows, 3});
      const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
      Pages on_gpu(gpu(), layout, 3), on_cpu(cpu(), layout, 3);
      for (Pages* cache : {&on_gpu, &on_cpu}) {
        Backend& backend = *cache->backend;
        const Rows keys(backend, k, kRows + kTree), values(backend, v, kRows + kTree);
        backend.store_kv(cache->batch(rows, path), kLayer, keys.tensor, values.tensor);
      }
      for (int32_t page = 0; page < 3; ++page)
        ASSERT_EQ(on_gpu.bytes(page), on_cpu.bytes(page)) << dtype_info(type).name;
      constexpr int32_t kAsked[] = {0, 70, kRows - 1, kRows + 1, kRows + 2};
      std::vector<AttentionRow> asked;
      std::vector<float> asked_q;
      for (const int32_t row : kAsked) {
        const auto first = q.begin() + int64_t{row} * kHeads * head_dim;
        asked.push_back(rows[static_cast<size_t>(row)]);
        asked_q.insert(asked_q.end(), first, first + kHeads * head_dim);
      }
      const Rows queries(gpu(), asked_q, 5), out(gpu(), 5, kHeads * head_dim);
      gpu().attention(on_gpu.batch(asked, path), kLayer, queries.tensor, scale, out.tensor);
      const auto found = out.values();
      for (int32_t i = 0; i < 5; ++i) {
        const int32_t row = kAsked[i];
        std::vector<int32_t> slots;
        for (int32_t p = 0; p < std::min(row + 1, kRows); ++p) slots.push_back(p);
        if (row > kRows) slots.insert(slots.end(), {kRows, row});
        for (const int32_t head : {0, 5}) {
          const int64_t at = (int64_t{i} * kHeads + head) * head_dim;
          const auto wanted = attend(on_gpu, kLayer, head / 3, asked_q.data() + at, slots, scale);
          for (int32_t d = 0; d < head_dim; ++d) {
            ASSERT_NEAR(found[static_cast<size_t>(at + d)], wanted[static_cast<size_t>(d)], 2e-5)
                << dtype_info(type).name << " row " << row << " head " << head << " value " << d;
          }
        }
      }
    }
  }
}

TEST_F(Cuda, MovesWholeSlotsOfEveryType) {
  for (const DType type : test::kv_types()) {
    const KvLayout layout{2, 2, 64, type};
    Pages cache(gpu(), layout, 2);
    std::mt19937 random(7);
    std::vector<std::vector<std::byte>> wanted;
    for (std::byte* page : cache.pages) {
      auto& bytes = wanted.emplace_back(static_cast<size_t>(layout.page_bytes()));
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() & 0xFFU);
      gpu().upload(page, bytes.data(), layout.page_bytes());
    }
    const std::vector<int32_t> from = {60, 62, 66, 66, 90}, to = {60, 61, 62, 65, 66};
    gpu().move_kv(layout, cache.span, from, to);
    for (size_t i = 0; i < from.size(); ++i) {
      const auto source = test::slot_bytes(
          layout, wanted[static_cast<size_t>(from[i] / kSlots)].data(), from[i] % kSlots);
      const auto target = test::slot_bytes(
          layout, wanted[static_cast<size_t>(to[i] / kSlots)].data(), to[i] % kSlots);
      for (size_t byte = 0; byte < source.size(); ++byte) *target[byte] = *source[byte];
    }
    EXPECT_EQ(cache.bytes(0), wanted[0]) << dtype_info(type).name;
    EXPECT_EQ(cache.bytes(1), wanted[1]) << dtype_info(type).name;
  }
}

TEST_F(Cuda, RefusesCachesThatItsKernelsDoNotRead) {
  EXPECT_NO_THROW(gpu().check_kv({1, 1, 64, DType::kQ8_0}));
  EXPECT_THROW(gpu().check_kv({1, 1, 80, DType::kQ8_0}), Error);
  EXPECT_THROW(gpu().check_kv({1, 1, 64, DType::kQ4_0}), Error);
  EXPECT_THROW(gpu().check_kv({1, 1, 288, DType::kF16}), Error);
  EXPECT_THROW(gpu().check_kv({1, 1, 63, DType::kF16}), Error);
}

}  // namespace
}  // namespace forerun::cuda_test
