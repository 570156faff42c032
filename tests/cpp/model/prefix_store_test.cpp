#include "model/prefix_store.h"

#include <gtest/gtest.h>

#include <numeric>

namespace forerun {
namespace {

constexpr KvLayout kLayout{1, 1, 2};

class PrefixStoreTest : public testing::Test {
 protected:
  KvCache cache_of(int32_t length) {
    KvCache cache(*backend_, kLayout, 10000);
    cache.prepare(length);
    cache.commit_rows(length);
    return cache;
  }
  static std::vector<int32_t> tokens(int32_t count, int32_t first) {
    std::vector<int32_t> out(static_cast<size_t>(count));
    std::iota(out.begin(), out.end(), first);
    return out;
  }
  int32_t restored(PrefixStore& store, const std::vector<int32_t>& prompt) {
    KvCache cache(*backend_, kLayout, 10000);
    const int32_t length = store.restore(prompt, cache);
    EXPECT_EQ(cache.length(), length);
    EXPECT_EQ(cache.pages().size(), static_cast<size_t>((length + 63) / 64));
    return length;
  }
  std::unique_ptr<Backend> backend_ = make_cpu_backend(1);
};

TEST_F(PrefixStoreTest, GivesTheLongestCommonPrefixButLeavesTheLastRow) {
  PrefixStore store(100);
  store.save(tokens(100, 0), cache_of(99));
  auto prompt = tokens(150, 0);
  EXPECT_EQ(restored(store, prompt), 99);
  prompt[70] = -1;
  EXPECT_EQ(restored(store, prompt), 70);
  EXPECT_EQ(restored(store, tokens(50, 0)), 49);
  EXPECT_EQ(restored(store, tokens(1, 0)), 0);
  EXPECT_EQ(restored(store, tokens(50, 1)), 0);
  EXPECT_EQ(restored(store, {}), 0);
}

TEST_F(PrefixStoreTest, ForgetsTheLeastRecentlyUsedBeyondItsPages) {
  PrefixStore store(4);
  store.save(tokens(128, 1000), cache_of(128));
  store.save(tokens(128, 2000), cache_of(128));
  EXPECT_EQ(restored(store, tokens(64, 1000)), 63);  // now the more recent one
  store.save(tokens(64, 3000), cache_of(64));
  EXPECT_EQ(restored(store, tokens(64, 1000)), 63);
  EXPECT_EQ(restored(store, tokens(64, 2000)), 0);
  EXPECT_EQ(restored(store, tokens(64, 3000)), 63);
  store.save(tokens(64 * 5, 4000), cache_of(64 * 5));  // larger than all: not kept
  EXPECT_EQ(restored(store, tokens(64, 4000)), 0);
}

// Two answers to one prompt of three pages: five pages in all, of which the limit speaks.
TEST_F(PrefixStoreTest, CountsPagesThatEntriesShareOnce) {
  PrefixStore store(5);
  auto first = tokens(4 * 64, 0), second = tokens(4 * 64, 0);
  std::fill(second.begin() + 3 * 64, second.end(), 7);
  KvCache prompt = cache_of(3 * 64), one = prompt.fork(), two = prompt.fork();
  for (KvCache* answer : {&one, &two}) {
    answer->prepare(64);
    answer->commit_rows(64);
  }
  store.save(first, one);
  store.save(second, two);
  EXPECT_EQ(restored(store, first), 255);
  EXPECT_EQ(restored(store, second), 255);
  store.save(tokens(64, 3000), cache_of(64));  // the sixth: an answer goes, and with it one page
  EXPECT_EQ(restored(store, first), 192);
  EXPECT_EQ(restored(store, second), 255);
  EXPECT_EQ(restored(store, tokens(64, 3000)), 63);
  store.save(tokens(5 * 64, 5000), cache_of(5 * 64));  // all others go
  EXPECT_EQ(restored(store, second), 0);
  EXPECT_EQ(restored(store, tokens(5 * 64, 5000)), 319);
}

TEST_F(PrefixStoreTest, ALongerTimelineReplacesItsOwnBeginning) {
  PrefixStore store(3);
  store.save(tokens(64, 0), cache_of(64));
  store.save(tokens(190, 0), cache_of(190));  // fits only if the first entry went
  EXPECT_EQ(restored(store, tokens(190, 0)), 189);
  store.clear();
  EXPECT_EQ(restored(store, tokens(190, 0)), 0);
}

}  // namespace
}  // namespace forerun
