#include "draft/shared_texts.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/error.h"

namespace forerun {
namespace {

constexpr uint64_t kBytes = SharedTexts::kLeastBytes;

TEST(SharedTexts, AMillionTokensOfManyTenantsStayWithinTheLimit) {
  SharedTexts texts(kBytes);
  std::mt19937 random(4);
  std::vector<int32_t> text;
  for (int32_t written = 0, request = 0; written < 1000000; ++request) {
    text.clear();
    for (uint32_t i = 0; i < 1 + random() % 700; ++i)
      text.push_back(static_cast<int32_t>(random() % 9));
    texts.add("tenant " + std::to_string(request % 3000), text);
    written += static_cast<int32_t>(text.size());
    ASSERT_LE(texts.bytes(), kBytes);
  }
  EXPECT_GT(texts.texts().length() - texts.texts().begin(), 10000U);
  EXPECT_EQ(texts.owner("tenant 5000"), 0U);
  EXPECT_NE(texts.owner("tenant " + std::to_string(0)), 1U);  // marks are never given twice
}

TEST(SharedTexts, RefusesTooSmallALimitAndTooLongAName) {
  EXPECT_THROW(SharedTexts(1000), Error);
  SharedTexts texts(kBytes);
  EXPECT_THROW(texts.add(std::string(200, 'x'), std::vector<int32_t>{1}), Error);
}

}  // namespace
}  // namespace forerun
