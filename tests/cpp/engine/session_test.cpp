#include "engine/session.h"

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "engine/engine.h"
#include "model/tiny_model.h"

namespace forerun {
namespace {

class SessionTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    file_ = new test::TinyModelFile(test::TinyModel{.context = 128});
    EngineOptions options;
    options.target = file_->path();
    options.draft = "ngram+recycle";
    options.fixed_draft = 6;
    engine_ = Engine::load(options).release();
  }
  static void TearDownTestSuite() {
    delete engine_;
    delete file_;
  }
  static Session start(uint64_t seed = 3) {
    Sampling sampling;
    sampling.temperature = 0.9F;
    sampling.frequency_penalty = 0.2F;
    Session session = engine_->session(sampling, seed);
    session.append("abcabcabdabcabd");
    return session;
  }
  static void run(Session& session, int32_t tokens) {
    while (session.length() < tokens) session.step(tokens - session.length());
  }
  static test::TinyModelFile* file_;
  static Engine* engine_;
};
test::TinyModelFile* SessionTest::file_ = nullptr;
Engine* SessionTest::engine_ = nullptr;

TEST_F(SessionTest, RewindIsNeverHavingWritten) {
  Session straight = start();
  run(straight, 60);
  Session detour = start();
  run(detour, 40);
  detour.rewind(25);
  EXPECT_EQ(detour.length(), 25);
  run(detour, 60);
  EXPECT_EQ(detour.tokens(), straight.tokens());
}

TEST_F(SessionTest, RewindThenAppendIsAFreshPrompt) {
  Session session = start();
  run(session, 40);
  session.rewind(15);
  session.append("xyz");
  run(session, 50);
  Session fresh = engine_->session({.temperature = 0.9F, .frequency_penalty = 0.2F}, 3);
  fresh.append("abcabcabdabcabdxyz");
  run(fresh, 50);
  EXPECT_EQ(session.tokens(), fresh.tokens());
}

TEST_F(SessionTest, ForksDivergeAndLeaveEachOtherAlone) {
  Session first = start();
  run(first, 70);  // beyond one page of keys
  Session second = first.fork();
  second.append("zz");
  run(second, 100);
  run(first, 100);
  Session straight = start();
  run(straight, 100);
  EXPECT_EQ(first.tokens(), straight.tokens());
  EXPECT_NE(second.tokens(), first.tokens());
}

TEST_F(SessionTest, TheTreeOfAStepSpellsWhatItEmitted) {
  Session session = engine_->session();  // greedy: its text soon repeats itself
  session.append("abcabcabdabcabd");
  EXPECT_TRUE(session.last_tree().nodes.empty());
  size_t accepted = 0;
  while (session.length() < 100) {
    const int32_t root = session.tokens().back();
    const std::vector<int32_t> emitted = session.step().tokens;
    const StepTree tree = session.last_tree();
    ASSERT_EQ(tree.nodes[0].token, root);
    ASSERT_EQ(tree.nodes[0].parent, -1);
    ASSERT_EQ(tree.path.size(), emitted.size());
    for (size_t at = 1; at < tree.path.size(); ++at) {
      const StepTree::Node& node = tree.nodes[static_cast<size_t>(tree.path[at])];
      EXPECT_EQ(node.token, emitted[at - 1]);
      EXPECT_EQ(node.parent, tree.path[at - 1]);
      EXPECT_TRUE(std::string(node.source) == "ngram" || std::string(node.source) == "recycle");
      EXPECT_TRUE(node.score >= 0.0F && node.score <= 1.0F);
    }
    EXPECT_EQ(tree.bonus, emitted.back());
    accepted += tree.path.size() - 1;
  }
  EXPECT_EQ(accepted, static_cast<size_t>(session.stats().accepted));
  EXPECT_GT(accepted, 0U);
  EXPECT_TRUE(session.fork().last_tree().nodes.empty());
}

TEST_F(SessionTest, StepEmitsAtMostWhatIsAsked) {
  Session session = start();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(session.step(1).tokens.size(), 1U);
}

TEST_F(SessionTest, AFullContextIsAStateThenAnError) {
  Session session = start();
  StepResult last;
  while (session.length() < 128) {
    last = session.step();
    if (last.state == StepState::kEnd) session.rewind(session.length());
  }
  EXPECT_EQ(session.length(), 128);
  EXPECT_NE(last.state, StepState::kRunning);
  EXPECT_THROW(session.step(), Error);
  EXPECT_THROW(session.append("a"), Error);
  session.rewind(100);
  EXPECT_NO_THROW(session.step());
}

// What a caller's watch throws ends a call between two passes; what has been computed stays.
TEST_F(SessionTest, AWatchEndsACallBetweenItsPasses) {
  const test::TinyModelFile file(test::TinyModel{.context = 1024});
  EngineOptions options;
  options.target = file.path();
  options.draft = "none";
  const auto engine = Engine::load(options);
  std::vector<int32_t> text;
  for (int32_t i = 0; i < 600; ++i) text.push_back(97 + i * i % 7);
  int32_t passes = 0, last = INT32_MAX;
  const Watch watch = [&] {
    if (++passes > last) throw std::runtime_error("enough");
  };
  const auto passes_of = [&](const auto& call) {
    passes = 0;
    last = INT32_MAX;
    call();
    const int32_t all = passes;
    passes = 0;
    last = 1;
    EXPECT_THROW(call(), std::runtime_error);
    EXPECT_EQ(passes, 2);
    return all;
  };

  const std::vector<int32_t> taps = {-1}, layers = {0};
  const std::vector<std::vector<int32_t>> sets = {layers, layers};
  const std::vector<std::string> groupings = {"2"};
  EXPECT_EQ(passes_of([&] { engine->features(text, taps, 0, 0, watch); }), 5);
  EXPECT_EQ(passes_of([&] { engine->layer_agreement(text, sets, watch); }), 3 * 5);
  EXPECT_EQ(passes_of([&] { engine->parallel_agreement(text, groupings, watch); }), 2 * 5);
  ManyOptions many;
  many.max_tokens = 4;
  many.watch = watch;
  const std::string prompt(600, 'a');
  EXPECT_EQ(passes_of([&] { engine->complete_many(prompt, many); }), 3 + 4);

  Session straight = engine->session(), stopped = engine->session();
  straight.append(text);
  stopped.append(text);
  passes = 0;
  last = 1;
  EXPECT_THROW(stopped.prefill(watch), std::runtime_error);
  last = INT32_MAX;
  passes = 0;
  stopped.prefill(watch);
  EXPECT_EQ(passes, 2);  // a chunk was kept
  EXPECT_EQ(stopped.step(8).tokens, straight.step(8).tokens);
}

TEST_F(SessionTest, BadArgumentsAreNamed) {
  Session session = engine_->session();
  EXPECT_THROW(session.step(), Error);  // empty
  EXPECT_THROW(session.append(std::vector<int32_t>{1, 260}), Error);
  EXPECT_EQ(session.length(), 0);
  EXPECT_THROW(session.append(std::vector<int32_t>{-1}), Error);
  EXPECT_THROW(session.append(std::vector<int32_t>(129, 5)), Error);
  session.append("a");
  EXPECT_THROW(session.rewind(2), Error);
  EXPECT_THROW(session.rewind(-1), Error);
  EXPECT_THROW(session.step(0), Error);
}

}  // namespace
}  // namespace forerun
