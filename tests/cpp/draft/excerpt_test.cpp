#include "draft/excerpt.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/error.h"
#include "draft/contract.h"
#include "draft/lookup.h"

namespace forerun {
namespace {

constexpr ExcerptOptions kSmall{.tokens = 40, .chunk = 8, .recent = 10};

// Writes down what it is given to read.
class Reader final : public Drafter {
 public:
  std::vector<int32_t> text;
  int64_t unseen = 0;
  int begun = 0;
  std::string name() const override { return "reader"; }
  void begin(std::span<const int32_t> context) override {
    ++begun;
    text.assign(context.begin(), context.end());
  }
  void propose(std::span<const int32_t> context, const Budget&, const DraftNoise& noise,
               DraftTree&) override {
    text.assign(context.begin(), context.end());
    unseen = noise.unseen;
  }
  void observe(std::span<const int32_t> context, const Observation&) override {
    text.assign(context.begin(), context.end());
  }
  void rewind(std::span<const int32_t> context) override {
    text.assign(context.begin(), context.end());
  }
  std::unique_ptr<Drafter> fork() const override { return std::make_unique<Reader>(*this); }
};

std::vector<int32_t> noise_text(size_t length, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> out(length);
  for (int32_t& token : out) token = 1000 + static_cast<int32_t>(random() % 5000);
  return out;
}

bool holds(const std::vector<int32_t>& text, std::span<const int32_t> piece) {
  return std::search(text.begin(), text.end(), piece.begin(), piece.end()) != text.end();
}

TEST(ExcerptDrafter, KeepsTheContractOfDrafters) {
  test::DrafterContract contract;
  contract.vocab = 5;
  contract.shares_state = true;  // the choice of chunks depends on when it was made
  contract.make = [] {
    return std::make_unique<ExcerptDrafter>(std::make_unique<LookupDrafter>(),
                                            ExcerptOptions{60, 8, 16});
  };
  for (uint32_t seed = 0; seed < 10; ++seed) contract.check(seed);
}

TEST(ExcerptDrafter, ReadsTheBeginningTheChunksThatAreAskedForAndTheLatestTokens) {
  std::vector<int32_t> context = noise_text(400, 1);
  for (int32_t i = 0; i < 8; ++i) context[200 + static_cast<size_t>(i)] = 10 + i;  // chunk 25
  for (const int32_t token : {12, 13, 14, 15}) context.push_back(token);
  auto reader = std::make_unique<Reader>();
  const Reader& seen = *reader;
  ExcerptDrafter drafter(std::move(reader), kSmall);
  drafter.begin(context);
  const std::span<const int32_t> all(context);
  EXPECT_EQ(seen.text.size(), 2 * 8U + 10U);
  EXPECT_TRUE(std::equal(all.begin(), all.begin() + 8, seen.text.begin()));
  EXPECT_TRUE(holds(seen.text, all.subspan(200, 8)));
  EXPECT_TRUE(std::equal(all.end() - 10, all.end(), seen.text.end() - 10));
  DraftTree tree;
  tree.reset(context.back());
  drafter.propose(context, {4}, {}, tree);
  EXPECT_EQ(seen.unseen + static_cast<int64_t>(seen.text.size()),
            static_cast<int64_t>(context.size()));
}

TEST(ExcerptDrafter, KeepsItsChoiceUntilTheExcerptIsFullThroughRewindsAndForks) {
  std::vector<int32_t> context = noise_text(300, 2);
  auto reader = std::make_unique<Reader>();
  const Reader& seen = *reader;
  ExcerptDrafter drafter(std::move(reader), kSmall);
  drafter.begin(context);
  const std::vector<int32_t> first = seen.text;
  const DraftTree tree;
  for (int32_t i = 0; i < 14; ++i) {
    context.push_back(i);
    drafter.observe(context, {&tree, {}, 0, {}, 0});
    ASSERT_LE(seen.text.size(), 40U);
    EXPECT_TRUE(std::equal(first.begin(), first.end(), seen.text.begin()));
  }
  EXPECT_EQ(seen.begun, 1);
  context.resize(305);
  drafter.rewind(context);
  EXPECT_EQ(seen.begun, 1);
  EXPECT_TRUE(std::equal(context.end() - 15, context.end(), seen.text.end() - 15));
  for (int32_t i = 0; i < 40; ++i) {
    context.push_back(i);
    drafter.observe(context, {&tree, {}, 0, {}, 0});
    ASSERT_LE(seen.text.size(), 40U);
  }
  EXPECT_GE(seen.begun, 2);
  context.resize(20);  // fits: all of it is read
  drafter.rewind(context);
  EXPECT_EQ(seen.text, context);
  EXPECT_EQ(drafter.fork()->name(), "reader");
}

TEST(ExcerptDrafter, RefusesSizesWithoutRoomForAChunk) {
  EXPECT_THROW(ExcerptDrafter(std::make_unique<Reader>(), {30, 8, 12}), Error);
  EXPECT_THROW(ExcerptDrafter(std::make_unique<Reader>(), {300, 1, 12}), Error);
}

}  // namespace
}  // namespace forerun
