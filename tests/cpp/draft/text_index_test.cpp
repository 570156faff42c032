#include "draft/text_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace forerun {
namespace {

struct Text {
  std::vector<int32_t> tokens;
  std::vector<uint32_t> owners;
};

// Every place that ends before `before` and agrees with the context in at least 2 tokens, by the
// length class of its match, then the latest first.
std::vector<TextIndex::Occurrence> searched(const Text& text, uint64_t begin, uint64_t before,
                                            std::span<const int32_t> context, uint32_t owner) {
  std::vector<TextIndex::Occurrence> out;
  for (uint64_t end = before; end-- > begin;) {
    if (text.owners[end] != owner) continue;
    int32_t agree = 0;
    while (agree < TextIndex::kLongest && static_cast<size_t>(agree) < context.size() &&
           end - static_cast<uint64_t>(agree) + 1 > begin &&
           text.tokens[end - static_cast<uint64_t>(agree)] ==
               context[context.size() - 1 - static_cast<size_t>(agree)]) {
      ++agree;
    }
    if (agree >= 2) out.push_back({end, agree});
  }
  const auto length_class = [](int32_t matched) {
    return std::upper_bound(TextIndex::kLengths.begin(), TextIndex::kLengths.end(), matched) -
           TextIndex::kLengths.begin();
  };
  std::stable_sort(out.begin(), out.end(), [&](const auto& a, const auto& b) {
    return length_class(a.matched) > length_class(b.matched);
  });
  return out;
}

void expect_same(const std::vector<TextIndex::Occurrence>& a,
                 const std::vector<TextIndex::Occurrence>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].end, b[i].end);
    EXPECT_EQ(a[i].matched, b[i].matched);
  }
}

TEST(TextIndex, FindsEveryOccurrenceOfTheLongestSuffixesThroughAppendsAndRewinds) {
  std::mt19937 random(1);
  TextIndex index;
  Text text;
  for (int round = 0; round < 300; ++round) {
    if (round % 5 == 4) {
      text.tokens.resize(random() % (text.tokens.size() + 1));
      index.truncate(text.tokens.size());
    }
    const bool copies = random() % 3 == 0 && text.tokens.size() > 30;
    const size_t from = copies ? random() % (text.tokens.size() - 25) : 0;
    for (uint32_t i = 0; i < (copies ? 25U : random() % 12); ++i) {
      text.tokens.push_back(copies ? text.tokens[from + i] : static_cast<int32_t>(random() % 4));
      index.append(text.tokens.back());
    }
    text.owners.assign(text.tokens.size(), 0);
    if (text.tokens.empty()) continue;
    std::vector<TextIndex::Occurrence> found;
    const uint64_t last = text.tokens.size() - 1;
    index.find(text.tokens, last, 0, 100000, found);
    if (text.tokens.size() < 200) {  // else the walk may stop at its limit
      expect_same(found, searched(text, 0, last, text.tokens, 0));
    }
    found.clear();
    index.find(text.tokens, last, 0, 3, found);
    EXPECT_LE(found.size(), 3U);
  }
}

TEST(TextIndex, ARingForgetsTheOldestAndFindsOnlyTheOwnersText) {
  std::mt19937 random(2);
  TextIndex index(150);
  Text text;
  for (int round = 0; round < 400; ++round) {
    const uint32_t owner = 1 + random() % 2;
    for (uint32_t i = 0; i < 1 + random() % 20; ++i) {
      text.tokens.push_back(static_cast<int32_t>(random() % 4));
      text.owners.push_back(owner);
      index.append(text.tokens.back(), owner);
    }
    text.tokens.push_back(TokenText::kEnd);
    text.owners.push_back(owner);
    index.append(TokenText::kEnd, owner);
    EXPECT_EQ(index.length(), text.tokens.size());
    EXPECT_EQ(index.length() - index.begin(), std::min<uint64_t>(150, text.tokens.size()));
    std::vector<int32_t> context;
    for (int i = 0; i < 20; ++i) context.push_back(static_cast<int32_t>(random() % 4));
    for (const uint32_t who : {1U, 2U, 3U}) {
      std::vector<TextIndex::Occurrence> found;
      index.find(context, index.length(), who, 100000, found);
      expect_same(found, searched(text, index.begin(), index.length(), context, who));
    }
  }
}

TEST(TextIndex, AMillionTokensStayWithinTheBytesOfItsSize) {
  constexpr uint64_t kTokens = 30000;
  TextIndex index(kTokens);
  std::mt19937 random(3);
  uint64_t most = 0;
  for (int i = 0; i < 1000000; ++i) {
    index.append(static_cast<int32_t>(random() % 50000));
    if (i % 1000 == 0) most = std::max(most, index.bytes());
  }
  EXPECT_LE(most, TextIndex::bytes_for(kTokens));
  EXPECT_GT(most, TextIndex::bytes_for(kTokens) / 2);
  EXPECT_EQ(index.begin(), 1000000U - kTokens);
  EXPECT_EQ(index.token(index.begin() - 1), TokenText::kEnd);
  EXPECT_EQ(index.token(index.length()), TokenText::kEnd);
  EXPECT_GE(index.token(index.begin()), 0);
}

TEST(TextIndex, ClearForgetsEverything) {
  TextIndex index;
  for (const int32_t token : {1, 2, 3, 4, 1, 2, 3}) index.append(token);
  index.clear();
  for (const int32_t token : {9, 2, 3}) index.append(token);
  std::vector<TextIndex::Occurrence> found;
  index.find(std::vector<int32_t>{1, 2, 3}, 2, 0, 9, found);
  EXPECT_TRUE(found.empty());
}

}  // namespace
}  // namespace forerun
