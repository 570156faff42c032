#include "draft/ngram_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "base/error.h"

namespace forerun {
namespace {

int32_t searched(const std::vector<int32_t>& tokens, int32_t n, int32_t end) {
  for (int32_t at = end - 1; at + 1 >= n && end + 1 >= n; --at) {
    if (std::equal(tokens.begin() + at + 1 - n, tokens.begin() + at + 1,
                   tokens.begin() + end + 1 - n))
      return at;
  }
  return -1;
}

TEST(NgramIndex, FindsTheLatestEarlierOccurrenceThroughAppendsAndRewinds) {
  std::mt19937 random(1);
  NgramIndex index(1, 6);
  std::vector<int32_t> tokens;
  for (int round = 0; round < 400; ++round) {
    if (round % 5 == 4) {
      tokens.resize(random() % (tokens.size() + 1));
      index.truncate(static_cast<int32_t>(tokens.size()));
    }
    for (uint32_t i = random() % 12; i > 0; --i) {
      tokens.push_back(static_cast<int32_t>(random() % 3) - 1);  // negative ids are tokens too
      index.append(tokens.back());
    }
    ASSERT_TRUE(
        std::equal(tokens.begin(), tokens.end(), index.tokens().begin(), index.tokens().end()));
    for (int32_t n = 1; n <= 6 && !tokens.empty(); ++n) {
      const int32_t last = index.length() - 1;
      const int32_t some = static_cast<int32_t>(random() % tokens.size());
      EXPECT_EQ(index.previous(n, last), searched(tokens, n, last));
      EXPECT_EQ(index.previous(n, some), searched(tokens, n, some));
    }
  }
}

TEST(NgramIndex, GrowsAndStaysExactOnLongContexts) {
  std::mt19937 random(2);
  NgramIndex index(2, 4);
  std::vector<int32_t> tokens;
  for (int i = 0; i < 6000; ++i) {
    tokens.push_back(static_cast<int32_t>(random() % 40));
    index.append(tokens.back());
  }
  index.truncate(5000);
  tokens.resize(5000);
  for (int i = 0; i < 300; ++i) {
    tokens.push_back(static_cast<int32_t>(random() % 40));
    index.append(tokens.back());
    const int32_t last = index.length() - 1;
    for (int32_t n = 2; n <= 4; ++n) EXPECT_EQ(index.previous(n, last), searched(tokens, n, last));
  }
}

TEST(NgramIndex, RefusesImpossibleLengths) {
  EXPECT_THROW(NgramIndex(0, 3), Error);
  EXPECT_THROW(NgramIndex(4, 3), Error);
  EXPECT_THROW(NgramIndex(1, 65), Error);
}

}  // namespace
}  // namespace forerun
