#include "model/batch.h"

#include <gtest/gtest.h>

#include <random>

namespace forerun {
namespace {

constexpr KvLayout kLayout{1, 1, 2};

// The slots that a row sees, by logical position, read off the batch.
std::vector<int32_t> visible(const AttentionBatch& batch, int32_t row) {
  const AttentionRow& r = batch.rows[static_cast<size_t>(row)];
  std::vector<int32_t> slots;
  for (int32_t p = 0; p <= r.position; ++p) {
    slots.push_back(p < r.prefix ? p
                                 : batch.path[static_cast<size_t>(r.path_begin + p - r.prefix)]);
  }
  return slots;
}

class BatchTest : public testing::Test {
 protected:
  KvCache cache_of(int32_t length) {
    KvCache cache(*backend_, kLayout, 1000);
    cache.prepare(length);
    cache.commit_rows(length);
    return cache;
  }
  std::unique_ptr<Backend> backend_ = make_cpu_backend(1);
};

TEST_F(BatchTest, ATreeRowSeesThePrefixAndItsAncestors) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    const auto length = static_cast<int32_t>(random() % 130);
    KvCache cache = cache_of(length);
    DraftTree tree;
    tree.reset(1);
    const int32_t nodes = 1 + static_cast<int32_t>(random() % 20);
    for (int32_t i = 1; i < nodes; ++i) {
      tree.add(static_cast<int32_t>(random() % static_cast<uint32_t>(tree.size())), 10 + i, 0.5F,
               DraftSource::kOther);
    }
    Batch batch;
    batch.add_tree(cache, tree);
    ASSERT_EQ(batch.rows(), tree.size());
    const AttentionBatch seen = batch.attention();
    for (int32_t node = 0; node < tree.size(); ++node) {
      std::vector<int32_t> ancestors;
      for (int32_t at = node; at >= 0; at = tree.parent()[static_cast<size_t>(at)]) {
        ancestors.insert(ancestors.begin(), length + at);
      }
      std::vector<int32_t> wanted(static_cast<size_t>(length));
      for (int32_t p = 0; p < length; ++p) wanted[static_cast<size_t>(p)] = p;
      wanted.insert(wanted.end(), ancestors.begin(), ancestors.end());
      ASSERT_EQ(visible(seen, node), wanted);
      ASSERT_EQ(seen.rows[static_cast<size_t>(node)].slot, length + node);
      ASSERT_EQ(batch.position()[static_cast<size_t>(node)],
                length + tree.depth()[static_cast<size_t>(node)]);
    }
  }
}

TEST_F(BatchTest, TheRowsOfASpanSeeOneAnotherAndTheSpansAbove) {
  KvCache cache = cache_of(70);
  DraftTree tree;  // 0 -> 1 -> 2 -> 4 -> 5, 1 -> 3
  tree.reset(1);
  for (const int32_t parent : {0, 1, 1, 2, 4}) tree.add(parent, 10 + tree.size(), 0.5F, {});
  const auto slots = [](std::vector<int32_t> scratch) {
    std::vector<int32_t> all(70);
    for (int32_t p = 0; p < 70; ++p) all[static_cast<size_t>(p)] = p;
    for (const int32_t slot : scratch) all.push_back(70 + slot);
    return all;
  };
  const auto expect_span = [&](int32_t node, const std::vector<int32_t>& seen,
                               const std::vector<int32_t>& tokens) {
    Batch batch;
    batch.add_spans(cache, tree, std::vector<int32_t>{node}, 2);
    ASSERT_EQ(batch.rows(), 2);
    EXPECT_EQ(batch.logit_row().size(), 2U);
    const int32_t end = 70 + tree.depth()[static_cast<size_t>(node)];
    for (int32_t row = 0; row < 2; ++row) {
      const auto at = static_cast<size_t>(row);
      EXPECT_EQ(visible(batch.attention(), row), slots(seen)) << node;
      EXPECT_EQ(batch.attention().rows[at].slot, 70 + 2 * node + 1 - row);
      EXPECT_EQ(batch.position()[at], end - 1 + row);
      EXPECT_EQ(batch.token()[at], tokens[at]);
    }
  };
  expect_span(0, {0}, {1, 1});  // its first row is the text's last but one, which is committed
  expect_span(2, {0, 5, 4}, {11, 12});
  expect_span(3, {0, 7, 6}, {11, 13});
  expect_span(5, {0, 5, 4, 11, 10}, {14, 15});
}

TEST_F(BatchTest, AChainIsCausal) {
  KvCache cache = cache_of(70);
  DraftTree chain;
  chain.reset(1);
  for (int32_t i = 1; i < 6; ++i) chain.add(i - 1, i, 0.5F, DraftSource::kOther);
  Batch tree, causal;
  tree.add_tree(cache, chain);
  causal.add_causal(cache, std::vector<int32_t>{1, 1, 2, 3, 4, 5}, 6);
  const AttentionBatch a = tree.attention(), b = causal.attention();
  for (size_t row = 0; row < 6; ++row) {
    EXPECT_EQ(a.rows[row].prefix, b.rows[row].prefix);
    EXPECT_EQ(a.rows[row].slot, b.rows[row].slot);
  }
}

TEST_F(BatchTest, RowsOfSeveralSequencesKeepTheirOwn) {
  KvCache one = cache_of(3), two = cache_of(200);
  DraftTree tree;
  tree.reset(5);
  tree.add(0, 6, 1.0F, DraftSource::kOther);
  Batch batch;
  batch.add_causal(one, std::vector<int32_t>{7, 8, 9}, 1);
  batch.add_tree(two, tree);
  EXPECT_EQ(std::vector<int32_t>(batch.token().begin(), batch.token().end()),
            (std::vector<int32_t>{7, 8, 9, 5, 6}));
  EXPECT_EQ(std::vector<int32_t>(batch.logit_row().begin(), batch.logit_row().end()),
            (std::vector<int32_t>{2, 3, 4}));
  const AttentionBatch seen = batch.attention();
  EXPECT_EQ(seen.rows[2].sequence, 0);
  EXPECT_EQ(seen.rows[3].sequence, 1);
  EXPECT_EQ(seen.pages[1].data(), two.pages().data());
}

}  // namespace
}  // namespace forerun
