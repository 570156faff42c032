// The exactness contract for every type of keys and values: within one type the tokens are those of
// plain decoding whatever guesses, batches, chunks, threads or instruction sets.

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/forced_isa.h"
#include "engine/engine.h"
#include "engine/requests.h"

namespace forerun {
namespace {

using test::repetitive_prompt;
using test::request;
using test::TinyModel;
using test::TinyModelFile;

class KvType : public testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() { target_ = new TinyModelFile(TinyModel{}); }
  static void TearDownTestSuite() { delete target_; }

  static EngineOptions options(const std::string& draft, int32_t fixed = -1) {
    EngineOptions options;
    options.target = target_->path();
    options.draft = draft;
    options.fixed_draft = fixed;
    options.threads = 1;
    options.kv_type = GetParam();
    return options;
  }
  static std::vector<GenerateOptions> requests() {
    return {request(0.0F, 1), request(0.7F, 2), request(1.0F, 3)};
  }
  static std::vector<int32_t> prompt(size_t i) {
    return repetitive_prompt(100, static_cast<uint32_t>(i));  // the answer crosses a page
  }
  static std::vector<std::vector<int32_t>> answers(const EngineOptions& options) {
    const auto engine = Engine::load(options);
    std::vector<std::vector<int32_t>> out;
    const auto asked = requests();
    for (size_t i = 0; i < asked.size(); ++i) {
      out.push_back(engine->generate(prompt(i), asked[i]).tokens);
    }
    return out;
  }
  static TinyModelFile* target_;
};
TinyModelFile* KvType::target_ = nullptr;
INSTANTIATE_TEST_SUITE_P(Types, KvType, testing::Values("f16", "f32", "q8_0"),
                         [](const auto& one) { return one.param; });

TEST_P(KvType, GivesTheSameTextWithAndWithoutSpeculation) {
  const auto wanted = answers(options("none"));
  for (const std::string& draft :
       {std::string("ngram+recycle"), "ngram+model:" + target_->path()}) {
    for (const int32_t budget : {1, 3, 8, 32}) {
      EngineOptions guessing = options(draft, budget);
      guessing.threads = 1 + budget % 2;
      ASSERT_EQ(answers(guessing), wanted) << draft << " budget " << budget;
    }
  }
}

TEST_P(KvType, GivesTheSameTextWithEveryInstructionSet) {
  const auto wanted = answers(options("none"));
  for (const char* isa : {"scalar", "avx2", "avx512"}) {
    const test::ForcedIsa forced(isa);
    try {
      EXPECT_EQ(answers(options("ngram", 5)), wanted) << isa;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUnsupported) << error.what();
    }
  }
}

TEST_P(KvType, GivesTheSameTextBesideBatchNeighbours) {
  const auto wanted = answers(options("none"));
  const auto engine = Engine::load(options("recycle", 9));
  const auto asked = requests();
  std::vector<Session> sessions;
  for (size_t i = 0; i < asked.size(); ++i) {
    sessions.push_back(engine->session(asked[i].sampling, asked[i].seed));
    sessions.back().append(prompt(i));
  }
  const auto short_of = [&](size_t i) {
    return sessions[i].tokens().size() < prompt(i).size() + wanted[i].size();
  };
  for (bool running = true; running;) {
    std::vector<Session*> unfinished;
    for (size_t i = 0; i < sessions.size(); ++i) {
      if (short_of(i)) unfinished.push_back(&sessions[i]);
    }
    running = !unfinished.empty();
    if (running) engine->step(unfinished);
  }
  for (size_t i = 0; i < sessions.size(); ++i) {
    std::vector<int32_t> got(sessions[i].tokens().begin() + 100, sessions[i].tokens().end());
    got.resize(wanted[i].size());
    EXPECT_EQ(got, wanted[i]);
  }
}

TEST_P(KvType, GivesTheSameTextWhateverIsChunkedReusedForkedOrTakenBack) {
  const GenerateOptions asked = request(0.9F, 7);
  const auto text = repetitive_prompt(150, 9);
  const auto engine = Engine::load(options("none"));
  const auto wanted = engine->generate(text, asked).tokens;
  const Completion again = engine->generate(text, asked);  // from the prefix store
  EXPECT_EQ(again.tokens, wanted);
  EXPECT_EQ(again.stats.reused_tokens, 149);

  Session session = Engine::load(options("none"))->session(asked.sampling, asked.seed);
  session.append(std::span(text).first(70));
  Session probe = session.fork();  // its step forwards the rows so far, in pages of its own
  probe.step();
  session.append(repetitive_prompt(20, 3));
  session.step();
  session.rewind(70);
  session.append(std::span(text).subspan(70));
  std::vector<int32_t> got;
  while (got.size() < wanted.size()) {
    const StepResult step = session.step();
    got.insert(got.end(), step.tokens.begin(), step.tokens.end());
  }
  EXPECT_EQ(got, wanted);
}

TEST_P(KvType, SaysWhatItIsAndWhatAPositionTakes) {
  const EngineInfo info = Engine::load(options("none"))->info();
  EXPECT_EQ(info.kv_type, GetParam());
  // 2 layers, keys and values, 2 heads of 64
  const int64_t values = int64_t{2} * 2 * 2 * 64;
  const int64_t expected = GetParam() == "f16"   ? values * 2
                           : GetParam() == "f32" ? values * 4
                                                 : values / 32 * 34;
  EXPECT_EQ(info.kv_bytes_per_token, expected);
}

// The memory of the prefix store is counted in the bytes of the type.
TEST_P(KvType, LetsThePrefixStoreHoldWhatItsBytesAllow) {
  EngineOptions small = options("none");
  const int64_t page = Engine::load(small)->info().kv_bytes_per_token * 64;
  const auto text = repetitive_prompt(100, 2);  // two pages
  for (const int64_t pages : {1, 2}) {
    small.prefix_cache_bytes = pages * page;
    const auto engine = Engine::load(small);
    GenerateOptions one = request(0.0F, 1);
    one.max_tokens = 1;
    engine->generate(text, one);
    EXPECT_EQ(engine->generate(text, one).stats.reused_tokens, pages == 2 ? 99 : 0);
  }
}

TEST(KvTypeOption, RefusesWhatItDoesNotKnowAndHeadsThatDoNotFit) {
  TinyModel model;
  model.heads = 4, model.head_dim = 40;
  model.dtype = DType::kQ8_0;
  const TinyModelFile file(model);
  EngineOptions options;
  options.target = file.path();
  options.draft = "none";
  const auto refused = [&](const std::string& type, ErrorKind kind, const std::string& part) {
    options.kv_type = type;
    try {
      Engine::load(options);
      FAIL() << type;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  refused("q4_0", ErrorKind::kBadArgument, "f16, f32 or q8_0");
  refused("", ErrorKind::kBadArgument, "kv_type");
  refused("q8_0", ErrorKind::kUnsupported, "40");
  options.kv_type = "f32";
  EXPECT_NO_THROW(Engine::load(options));
}

}  // namespace
}  // namespace forerun
