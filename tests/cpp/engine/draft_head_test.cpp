// A draft head in the engine: the text stays, and what the head is handed does not depend on how
// the text came about.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/requests.h"
#include "io/expect_error.h"
#include "model/tiny_head.h"

namespace forerun {
namespace {

using test::repetitive_prompt;
using Tokens = std::vector<int32_t>;

class DraftHeads : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    target_ = new test::TinyModelFile({});
    first_ = new test::TinyHeadFile({.blocks = 2, .columns = 120});
    third_ = new test::TinyHeadFile(
        {.family = "eagle3", .taps = {0, 1, -1}, .columns = 120, .own_head = true});
    behind_ = new test::TinyHeadFile({.family = "kangaroo", .ffn = 0, .taps = {1}, .columns = 120});
    spans_ = new test::TinyHeadFile({.family = "falcon", .columns = 120, .span = 3});
    threes_ = new test::TinyHeadFile({.family = "chimera", .columns = 120, .own_head = true});
  }
  static void TearDownTestSuite() {
    delete target_, delete first_, delete third_, delete behind_, delete threes_, delete spans_;
  }

  static std::unique_ptr<Engine> load(const std::string& draft, int32_t fixed = 8,
                                      int64_t prefix_bytes = 0,
                                      const std::string& verify = "match") {
    EngineOptions options;
    options.target = target_->path();
    options.draft = draft;
    options.threads = 1;
    options.fixed_draft = fixed;
    options.prefix_cache_bytes = prefix_bytes;
    options.verify = verify;
    return Engine::load(options);
  }
  static std::vector<std::string> drafts() {
    return {"head:" + first_->path(),
            "head:" + third_->path(),
            "head:" + threes_->path(),
            "head:" + spans_->path(),
            "suffix+head:" + first_->path(),
            "head:" + third_->path() + "+trigram",
            "early-exit+head:" + behind_->path()};
  }
  static void expect_equal(const StepTree& a, const StepTree& b) {
    ASSERT_EQ(a.nodes.size(), b.nodes.size());
    for (size_t i = 0; i < a.nodes.size(); ++i) {
      EXPECT_EQ(a.nodes[i].token, b.nodes[i].token) << i;
      EXPECT_EQ(a.nodes[i].parent, b.nodes[i].parent) << i;
      EXPECT_EQ(a.nodes[i].score, b.nodes[i].score) << i;
    }
  }
  // The tree of a step after this text, in a session of its own.
  static StepTree fresh_tree(Engine& engine, const Tokens& text) {
    Session session = engine.session();
    session.append(text);
    session.step();
    return session.last_tree();
  }
  static void fork_and_rewind(const std::string& path) {
    const auto engine = load("head:" + path);
    Session session = engine->session();
    session.append(repetitive_prompt(40, 4));
    for (int step = 0; step < 3; ++step) session.step();
    Session copy = session.fork();
    const Tokens text = session.tokens();
    session.step();
    copy.step();
    expect_equal(copy.last_tree(), session.last_tree());
    expect_equal(copy.last_tree(), fresh_tree(*engine, text));

    session.rewind(25);
    const Tokens cut(text.begin(), text.begin() + 25);
    session.step();
    expect_equal(session.last_tree(), fresh_tree(*engine, cut));
    session.append(repetitive_prompt(20, 8));
    const Tokens longer = session.tokens();
    session.step();
    expect_equal(session.last_tree(), fresh_tree(*engine, longer));
  }
  static test::TinyModelFile* target_;
  static test::TinyHeadFile *first_, *third_, *behind_, *threes_, *spans_;
};
test::TinyModelFile* DraftHeads::target_ = nullptr;
test::TinyHeadFile* DraftHeads::first_ = nullptr;
test::TinyHeadFile* DraftHeads::third_ = nullptr;
test::TinyHeadFile* DraftHeads::behind_ = nullptr;
test::TinyHeadFile* DraftHeads::threes_ = nullptr;
test::TinyHeadFile* DraftHeads::spans_ = nullptr;

TEST_F(DraftHeads, LeaveTheTextAsItIsAtEveryBudgetAndTemperature) {
  for (const float temperature : {0.0F, 0.9F}) {
    GenerateOptions options;
    options.max_tokens = 40;
    options.sampling.temperature = temperature;
    options.seed = 5;
    const Tokens text = repetitive_prompt(70, 2);
    const Tokens wanted = load("none")->generate(text, options).tokens;
    for (const std::string& draft : drafts()) {
      for (const int32_t budget : {-1, 0, 1, 6, 20}) {
        const auto engine = load(draft, budget, 1 << 20);
        for (int round = 0; round < 2; ++round) {  // the second takes its prompt from the cache
          const Completion got = engine->generate(text, options);
          ASSERT_EQ(got.tokens, wanted) << draft << " budget " << budget << " round " << round;
        }
      }
    }
  }
}

TEST_F(DraftHeads, DraftTheSameWhetherATextWasWrittenOrGiven) {
  for (const std::string& path :
       {first_->path(), third_->path(), behind_->path(), threes_->path(), spans_->path()}) {
    const auto engine = load("head:" + path);
    Session session = engine->session();
    session.append(repetitive_prompt(30, 3));
    for (int step = 0; step < 6; ++step) {
      const Tokens text = session.tokens();
      session.step();
      ASSERT_EQ(session.last_tree().nodes.size(), 9U);
      expect_equal(session.last_tree(), fresh_tree(*engine, text));
    }
  }
}

TEST_F(DraftHeads, DraftTheSameAfterAForkARewindAndAnotherTurn) {
  for (const std::string& path : {third_->path(), behind_->path(), threes_->path(), spans_->path()})
    fork_and_rewind(path);
}

TEST_F(DraftHeads, DraftTheSameWithNeighboursInTheBatch) {
  const auto engine = load("head:" + first_->path());
  std::vector<Session> alone, together;
  for (uint32_t i = 0; i < 3; ++i) {
    for (auto* sessions : {&alone, &together}) {
      sessions->push_back(engine->session());
      sessions->back().append(repetitive_prompt(20 + 9 * i, i));
    }
  }
  for (int step = 0; step < 5; ++step) {
    engine->step(std::vector<Session*>{&together[0], &together[1], &together[2]});
    for (size_t i = 0; i < alone.size(); ++i) {
      alone[i].step();
      expect_equal(together[i].last_tree(), alone[i].last_tree());
    }
  }
}

TEST_F(DraftHeads, DrawForVerifiersThatTestRatios) {
  GenerateOptions options;
  options.max_tokens = 60;
  options.sampling.temperature = 1.0F;
  for (const char* verify : {"rejection", "swor"}) {
    const auto engine = load("head:" + first_->path(), 6, 0, verify);
    const Completion got = engine->generate(repetitive_prompt(30, 5), options);
    EXPECT_GT(got.stats.drafted, 60) << verify;
    EXPECT_FALSE(got.stats.lossy);
  }
}

TEST_F(DraftHeads, AreFoundByAutoInAFolderWhenTheyFit) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(first_->path()).replace_extension(".heads");
  const fs::path empty = folder / "empty";
  fs::create_directories(empty);
  const auto drafters = [&](const std::string& draft) {
    EngineOptions options;
    options.target = target_->path();
    options.draft = draft;
    options.heads = {empty.string(), folder.string()};
    options.threads = 1;
    const auto engine = Engine::load(options);
    const Tokens text = test::repetitive_prompt(30, 1);
    GenerateOptions wanted;
    wanted.max_tokens = 40;
    EXPECT_EQ(engine->generate(text, wanted).tokens, load("none")->generate(text, wanted).tokens);
    return engine->info().drafters;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(drafters("auto"), (Names{"suffix", "trigram"}));
  test::TinyModel deeper;
  deeper.layers += 1;
  const test::TinyHeadFile other({.target = deeper});
  fs::copy_file(other.path(), folder / "a.gguf");
  std::ofstream(folder / "README.md") << "no draft";
  EXPECT_EQ(drafters("auto"), (Names{"suffix", "trigram"}));
  fs::copy_file(first_->path(), folder / "b.gguf");
  EXPECT_EQ(drafters("auto"), (Names{"suffix", "trigram", "head"}));
  EXPECT_EQ(drafters("suffix"), Names{"suffix"});
  EXPECT_EQ(drafters("none"), Names{});
  std::ofstream(folder / "c.gguf") << "no draft";
  EXPECT_EQ(drafters("auto"), (Names{"suffix", "trigram", "head"}));
  EXPECT_EQ(drafters("auto+recycle"), (Names{"suffix", "trigram", "recycle", "head"}));
  EXPECT_EQ(drafters("auto+early-exit"), (Names{"suffix", "trigram", "early-exit"}));
  EXPECT_EQ(drafters("auto+head:" + third_->path()), (Names{"suffix", "trigram", "head"}));
  fs::remove(folder / "b.gguf");
  fs::copy_file(target_->path(), folder / "d.gguf");
  EXPECT_EQ(drafters("auto"), (Names{"suffix", "trigram"}));
  fs::remove_all(folder);
  test::expect_error([&] { drafters("auto"); }, ErrorKind::kBadArgument, {"heads", empty.string()});
  EXPECT_EQ(drafters("none"), Names{});
}

TEST_F(DraftHeads, AreRefusedWhereTheyWereMadeForAnotherTarget) {
  test::TinyHead other;
  other.target.layers = 5;
  const test::TinyHeadFile file(other);
  test::expect_error([&] { load("head:" + file.path()); }, ErrorKind::kBadArgument,
                     {"5 layers, this one has 2"});
}

TEST_F(DraftHeads, AreNoModelsAndModelsAreNoHeads) {
  test::expect_error([] { load("model:" + first_->path()); }, ErrorKind::kBadFile,
                     {first_->path(), "draft='head:PATH'"});
  test::expect_error([] { load("head:" + target_->path()); }, ErrorKind::kBadFile,
                     {target_->path(), "llama"});
}

}  // namespace
}  // namespace forerun
