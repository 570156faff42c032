#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "backend/kv_slots.h"
#include "base/error.h"

namespace forerun {
namespace {

constexpr int32_t kSlots = KvLayout::kPageSlots;

class KvCacheTest : public testing::TestWithParam<DType> {
 protected:
  // All bytes of a slot: what commit, fork and rewind may move.
  std::vector<std::byte> slot_values(const KvCache& cache, int32_t slot) const {
    return test::slot_content(layout_, cache.pages()[static_cast<size_t>(slot / kSlots)],
                              slot % kSlots);
  }
  // Bytes that differ between slots, layers and heads.
  void fill_slot(KvCache& cache, int32_t slot, uint32_t tag) const {
    std::mt19937 random(tag);
    for (std::byte* byte : test::slot_bytes(
             layout_, cache.pages()[static_cast<size_t>(slot / kSlots)], slot % kSlots)) {
      *byte = static_cast<std::byte>(random());
    }
  }
  KvCache cache_of(int32_t rows) {
    KvCache cache(*backend_, layout_, 1000);
    cache.prepare(rows);
    for (int32_t slot = 0; slot < rows; ++slot) fill_slot(cache, slot, tag(slot));
    cache.commit_rows(rows);
    return cache;
  }
  static uint32_t tag(int32_t slot) { return static_cast<uint32_t>(100 + slot * 64); }
  std::unique_ptr<Backend> backend_ = make_cpu_backend(1);
  KvLayout layout_{2, 2, 32, GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Types, KvCacheTest, testing::ValuesIn(test::kv_types()),
                         [](const auto& one) { return std::string(dtype_info(one.param).name); });

TEST_P(KvCacheTest, CommitGathersTheRowsOfThePath) {
  std::mt19937 random(1);
  for (const int32_t length : {0, 1, 50, 63, 64, 100}) {
    for (int round = 0; round < 6; ++round) {
      KvCache cache = cache_of(length);
      const int32_t rows = 1 + static_cast<int32_t>(random() % 40);
      cache.prepare(rows);
      std::vector<std::vector<std::byte>> before;
      for (int32_t slot = 0; slot < length + rows; ++slot) {
        if (slot >= length) fill_slot(cache, slot, static_cast<uint32_t>(30000 + slot * 64));
        before.push_back(slot_values(cache, slot));
      }
      std::vector<int32_t> path{0};
      for (int32_t node = 1; node < rows; ++node) {
        if (random() % 3 == 0) path.push_back(node);
      }
      cache.commit(path);
      ASSERT_EQ(cache.length(), length + static_cast<int32_t>(path.size()));
      for (int32_t slot = 0; slot < length; ++slot) {
        ASSERT_EQ(slot_values(cache, slot), before[static_cast<size_t>(slot)]);
      }
      for (size_t j = 0; j < path.size(); ++j) {
        ASSERT_EQ(slot_values(cache, length + static_cast<int32_t>(j)),
                  before[static_cast<size_t>(length + path[j])]);
      }
    }
  }
}

TEST_P(KvCacheTest, ForksSharePagesUntilOneWrites) {
  KvCache first = cache_of(100);
  KvCache second = first.fork();
  EXPECT_EQ(first.pages()[0], second.pages()[0]);
  EXPECT_EQ(first.pages()[1], second.pages()[1]);
  second.prepare(1);
  EXPECT_EQ(first.pages()[0], second.pages()[0]);  // full: nobody writes to it
  EXPECT_NE(first.pages()[1], second.pages()[1]);
  fill_slot(second, 100, 7);
  first.prepare(1);
  fill_slot(first, 100, 9);
  for (int32_t slot = 0; slot < 100; ++slot) {
    ASSERT_EQ(slot_values(first, slot), slot_values(second, slot));
  }
  EXPECT_NE(slot_values(first, 100), slot_values(second, 100));
}

TEST_P(KvCacheTest, WritingAfterARewindLeavesTheForkAlone) {
  KvCache first = cache_of(100);
  const KvCache second = first.fork();
  first.rewind(10);
  first.prepare(3);
  for (int32_t slot = 10; slot < 13; ++slot) fill_slot(first, slot, 1);
  const KvCache fresh = cache_of(100);
  for (int32_t slot = 0; slot < 100; ++slot) {
    ASSERT_EQ(slot_values(second, slot), slot_values(fresh, slot)) << slot;
  }
}

TEST_P(KvCacheTest, RewindsOnlyBackwards) {
  KvCache cache = cache_of(5);
  EXPECT_THROW(cache.rewind(6), Error);
  EXPECT_THROW(cache.rewind(-1), Error);
  cache.rewind(0);
  EXPECT_EQ(cache.length(), 0);
}

}  // namespace
}  // namespace forerun
