#include <gtest/gtest.h>

#include <cmath>

#include "engine/engine.h"
#include "model/tiny_model.h"

namespace forerun {
namespace {

class CompleteManyTest : public testing::Test {
 protected:
  static EngineOptions options_of(const std::string& path) {
    EngineOptions options;
    options.target = path;
    options.draft = "none";
    options.threads = 1;
    return options;
  }
  test::TinyModelFile file_{{.layers = 2, .seed = 12}};
  std::unique_ptr<Engine> engine_ = Engine::load(options_of(file_.path()));
};

TEST_F(CompleteManyTest, OneContinuationWithoutNgramsIsTheGreedyText) {
  GenerateOptions plain;
  plain.max_tokens = 12;
  const Completion wanted = engine_->generate("one two three one two", plain);
  const auto found = engine_->complete_many("one two three one two",
                                            {.count = 1, .max_tokens = 12, .ngram_weight = 0.0});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].tokens, wanted.tokens);
  EXPECT_EQ(found[0].text, wanted.text);
}

TEST_F(CompleteManyTest, FirstTokensAreTheLikeliestOnes) {
  GenerateOptions plain;
  plain.max_tokens = 1;
  plain.logprobs = 5;
  const Completion wanted = engine_->generate("abc", plain);
  const auto found =
      engine_->complete_many("abc", {.count = 5, .max_tokens = 1, .ngram_weight = 0.0});
  ASSERT_EQ(found.size(), 5U);
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].tokens, std::vector<int32_t>{wanted.logprobs[0].top[i].token});
    EXPECT_NEAR(found[i].score, wanted.logprobs[0].top[i].logprob, 1e-6);
  }
}

TEST_F(CompleteManyTest, ContinuationsDifferAndAreSortedByScore) {
  const auto found = engine_->complete_many("abcabc", {.count = 4, .max_tokens = 8});
  ASSERT_EQ(found.size(), 4U);
  for (size_t i = 1; i < found.size(); ++i) {
    EXPECT_GE(found[i - 1].score, found[i].score);
    for (size_t j = 0; j < i; ++j) EXPECT_NE(found[i].tokens, found[j].tokens);
  }
}

TEST_F(CompleteManyTest, ACorpusMakesAnUnlikelyTokenTheFirst) {
  const auto likely =
      engine_->complete_many("k zq", {.count = 32, .max_tokens = 1, .ngram_weight = 0.0});
  size_t wanted = likely.size() - 1;
  const auto plain_letter = [](const std::string& text) {
    return text.size() == 1 && text[0] > ' ' && text[0] < 127;
  };
  while (wanted > 0 && !plain_letter(likely[wanted].text)) --wanted;
  ASSERT_GT(wanted, 0U);
  std::string corpus;
  for (int i = 0; i < 40; ++i) corpus += "zq" + likely[wanted].text + " ";
  const auto found = engine_->complete_many(
      "k zq", {.count = 1, .max_tokens = 1, .ngram_weight = 1.0, .corpus = corpus});
  EXPECT_EQ(found[0].text, likely[wanted].text);
}

TEST_F(CompleteManyTest, LeavesNothingBehindAndRefusesBadOptions) {
  GenerateOptions plain;
  plain.max_tokens = 8;
  const Completion before = engine_->generate("abcd", plain);
  engine_->complete_many("abcd", {});
  EXPECT_EQ(engine_->generate("abcd", plain).tokens, before.tokens);
  EXPECT_THROW(engine_->complete_many("", {.count = 1}), Error);
  EXPECT_THROW(engine_->complete_many("a", {.count = 0}), Error);
  EXPECT_THROW(engine_->complete_many("a", {.count = 33}), Error);
  EXPECT_THROW(engine_->complete_many("a", {.max_tokens = 0}), Error);
  EXPECT_THROW(engine_->complete_many("a", {.ngram_weight = 1.5}), Error);
  EXPECT_THROW(engine_->complete_many("a", {.ngram_weight = std::nan("")}), Error);
  EXPECT_THROW(engine_->complete_many("a", {.stop = {""}}), Error);
}

}  // namespace
}  // namespace forerun
