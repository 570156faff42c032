#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

#include "engine/engine.h"
#include "engine/requests.h"

namespace forerun {
namespace {

using test::kind_of;

class Generate : public testing::Test {
 protected:
  static void SetUpTestSuite() { file_ = new test::TinyModelFile(test::TinyModel{.context = 96}); }
  static void TearDownTestSuite() { delete file_; }
  static std::unique_ptr<Engine> load(const std::string& draft = "ngram+recycle",
                                      int32_t fixed = 5) {
    EngineOptions options;
    options.target = file_->path();
    options.draft = draft;
    options.fixed_draft = fixed;
    return Engine::load(options);
  }
  static test::TinyModelFile* file_;
};
test::TinyModelFile* Generate::file_ = nullptr;

TEST_F(Generate, StopsAtMaxTokensExactly) {
  const auto engine = load();
  for (const int32_t most : {0, 1, 2, 3, 7, 20}) {
    const Completion got = engine->generate("ababababab", {.max_tokens = most});
    if (got.finish_reason == "length") {
      EXPECT_EQ(static_cast<int32_t>(got.tokens.size()), most);
    }
    EXPECT_EQ(got.stats.tokens, static_cast<int64_t>(got.tokens.size()));
  }
}

TEST_F(Generate, EndsWhenTheContextIsFull) {
  const Completion got = load()->generate(
      "ababababab", {.max_tokens = 1000, .sampling = {.logit_bias = {{256, -1e9F}}}});
  EXPECT_EQ(got.finish_reason, "context");
  EXPECT_EQ(got.tokens.size(), 86U);
}

TEST_F(Generate, AnEndTokenInsideATreeEndsTheText) {
  // With the end token strongly favoured at some places, speculation must stop where plain decoding
  // stops.
  for (const float bias : {4.0F, 6.0F, 8.0F}) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      GenerateOptions options{.max_tokens = 60,
                              .sampling = {.temperature = 1.0F, .logit_bias = {{256, bias}}},
                              .seed = seed};
      const Completion plain = load("none")->generate("abcabcabc", options);
      const Completion got = load("model:" + file_->path(), 8)->generate("abcabcabc", options);
      ASSERT_EQ(got.tokens, plain.tokens) << bias << " " << seed;
      ASSERT_EQ(got.text, plain.text);
      ASSERT_EQ(got.finish_reason, plain.finish_reason);
    }
  }
}

TEST_F(Generate, StopStringsEndTheTextBeforeThem) {
  const auto engine = load("none");
  const Completion whole = engine->generate(
      "abcabcabc", {.max_tokens = 40, .sampling = {.temperature = 1.0F}, .seed = 3});
  ASSERT_GT(whole.text.size(), 20U);
  const auto border = [&](size_t at) {  // of a character
    while ((static_cast<unsigned char>(whole.text[at]) & 0xC0) == 0x80) ++at;
    return at;
  };
  const std::string stop = whole.text.substr(border(9), border(14) - border(9));
  const size_t at = whole.text.find(stop);
  for (const char* draft : {"none", "ngram+recycle"}) {
    std::string streamed;
    GenerateOptions options{.max_tokens = 40,
                            .sampling = {.temperature = 1.0F},
                            .stop = {"never there", stop},
                            .seed = 3};
    options.on_text = [&](std::string_view piece) { return streamed += piece, true; };
    const Completion got = load(draft)->generate("abcabcabc", options);
    EXPECT_EQ(got.finish_reason, "stop");
    EXPECT_EQ(got.text, whole.text.substr(0, at));
    EXPECT_EQ(streamed, got.text);
  }
}

TEST_F(Generate, ACallbackCancels) {
  int calls = 0;
  GenerateOptions options{.max_tokens = 50};
  options.on_text = [&](std::string_view) { return ++calls < 5; };
  const Completion got = load()->generate("abcabcabc", options);
  EXPECT_EQ(got.finish_reason, "cancelled");
  EXPECT_LT(got.tokens.size(), 50U);
}

TEST_F(Generate, LogprobsAreThoseOfPlainDecoding) {
  const GenerateOptions options{
      .max_tokens = 30, .sampling = {.temperature = 0.8F, .top_k = 5}, .seed = 8, .logprobs = 4};
  const Completion plain = load("none")->generate("abcabcabc", options);
  const Completion got = load()->generate("abcabcabc", options);
  ASSERT_EQ(plain.logprobs.size(), plain.tokens.size());
  ASSERT_EQ(got.logprobs.size(), plain.logprobs.size());
  for (size_t i = 0; i < got.logprobs.size(); ++i) {
    EXPECT_EQ(got.logprobs[i].chosen.token, got.tokens[i]);
    EXPECT_EQ(got.logprobs[i].chosen, plain.logprobs[i].chosen);
    EXPECT_EQ(got.logprobs[i].top, plain.logprobs[i].top);
    ASSERT_EQ(got.logprobs[i].top.size(), 4U);
    EXPECT_GE(got.logprobs[i].top[0].logprob, got.logprobs[i].chosen.logprob);
  }
}

TEST_F(Generate, OneTokenIsLeftAfterTheFilters) {
  const Completion got = load()->generate(
      "abc", {.max_tokens = 5, .sampling = {.temperature = 1.0F, .top_k = 1}, .seed = 1});
  EXPECT_EQ(got.tokens, load("none")->generate("abc", {.max_tokens = 5}).tokens);
}

TEST_F(Generate, TwoThreadsShareAnEngine) {
  const auto engine = load();
  const GenerateOptions options{.max_tokens = 40, .sampling = {.temperature = 1.0F}, .seed = 11};
  const auto wanted = load("none")->generate("abcabc", options).tokens;
  std::atomic<int> same{0};
  const auto work = [&] {
    for (int i = 0; i < 4; ++i)
      same += engine->generate("abcabc", options).tokens == wanted ? 1 : 0;
  };
  std::thread other(work);
  work();
  other.join();
  EXPECT_EQ(same, 8);
}

TEST_F(Generate, BadRequestsAreRefused) {
  const auto engine = load();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refused = [&](GenerateOptions options) {
    EXPECT_EQ(kind_of([&] { engine->generate("abc", options); }), ErrorKind::kBadArgument);
  };
  refused({.max_tokens = -1});
  refused({.sampling = {.temperature = nan}});
  refused({.sampling = {.temperature = -1.0F}});
  refused({.sampling = {.top_k = -1}});
  refused({.sampling = {.top_p = 0.0F}});
  refused({.sampling = {.top_p = 1.5F}});
  refused({.sampling = {.min_p = nan}});
  refused({.sampling = {.repetition_penalty = 0.0F}});
  refused({.sampling = {.logit_bias = {{260, 1.0F}}}});
  refused({.sampling = {.logit_bias = {{1, nan}}}});
  refused({.stop = {""}});
  EXPECT_EQ(kind_of([&] { engine->generate(std::vector<int32_t>(97, 5)); }),
            ErrorKind::kBadArgument);
  EXPECT_EQ(kind_of([&] { engine->generate(""); }),
            ErrorKind::kBadArgument);  // no BOS in this vocabulary
  EXPECT_EQ(engine->generate("", {.max_tokens = 0}).tokens.size(), 0U);
}

TEST_F(Generate, BadEnginesAreRefused) {
  const auto refused = [&](EngineOptions options) {
    return kind_of([&] { Engine::load(options); });
  };
  EXPECT_EQ(refused({.target = "/no/such/file.gguf"}), ErrorKind::kBadArgument);
  EXPECT_EQ(refused({.target = file_->path(), .draft = "magic"}), ErrorKind::kBadArgument);
  EXPECT_EQ(refused({.target = file_->path(), .threads = -1}), ErrorKind::kBadArgument);
  EXPECT_EQ(refused({.target = file_->path(), .context = 97}), ErrorKind::kBadArgument);
  EXPECT_EQ(refused({.target = file_->path(), .max_draft = 128}), ErrorKind::kBadArgument);
  const test::TinyModelFile larger(test::TinyModel{.vocab = 300});
  EXPECT_EQ(refused({.target = file_->path(), .draft = "model:" + larger.path()}),
            ErrorKind::kBadArgument);
  const test::TinyModelFile foreign(test::TinyModel{.architecture = "gptx"});
  EXPECT_EQ(refused({.target = foreign.path()}), ErrorKind::kUnsupported);
}

// Of 300 rows that may be chosen the tokenizer lists 260.
TEST_F(Generate, RowsThatTheTokenizerDoesNotListAreChosenAndSpellNothing) {
  const test::TinyModelFile file({.vocab = 300, .unlisted = 40});
  EngineOptions options;
  options.target = file.path();
  options.threads = 1;
  const auto engine = Engine::load(options);
  GenerateOptions request = test::request(1.0F, 1, 30);
  for (int32_t token = 0; token < 280; ++token)
    request.sampling.logit_bias.push_back({token, -1e9F});
  const Completion answer = engine->generate("abc", request);
  EXPECT_EQ(answer.tokens.size(), 30U);
  EXPECT_EQ(answer.text, "");
}

}  // namespace
}  // namespace forerun
