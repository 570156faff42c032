#include <gtest/gtest.h>

#include <map>
#include <string>

#include "engine/engine.h"
#include "model/tiny_model.h"

namespace forerun {
namespace {

using test::TinyModel;
using test::TinyModelFile;

constexpr int32_t kLayers = 3, kWidth = 256, kFfn = 512, kVocab = 272;

// 4 heads of 64 over 2 key heads; float weights, whose bytes are easily counted.
TinyModel model() {
  TinyModel m;
  m.dtype = m.head_dtype = DType::kF32;
  m.layers = kLayers;
  m.ffn = kFfn;
  m.vocab = kVocab;
  return m;
}

std::unique_ptr<Engine> load(const std::string& path, const std::string& draft, bool profile,
                             int32_t fixed = -1) {
  EngineOptions options;
  options.target = path;
  options.draft = draft;
  options.profile = profile;
  options.fixed_draft = fixed;
  options.threads = 1;
  return Engine::load(options);
}

struct Count {
  int64_t calls = 0, bytes = 0, operations = 0;
};

std::map<std::string, Count> counts(const std::vector<TraceSpan>& spans, int32_t step) {
  std::map<std::string, Count> out;
  for (const TraceSpan& span : spans) {
    if (span.step != step) continue;
    Count& count = out[span.name];
    count.calls += 1;
    count.bytes += span.bytes;
    count.operations += span.operations;
  }
  return out;
}

const std::string kPrompt = "abcabcabcabcabc";

TEST(Profile, APlainStepHasTheCallsAndBytesOfItsModel) {
  const TinyModelFile file(model());
  const auto engine = load(file.path(), "none", true);
  engine->generate(kPrompt, {.max_tokens = 4});
  const std::vector<TraceSpan> spans = engine->profile();

  int32_t steps = 0, prefills = 0;
  for (const TraceSpan& span : spans) {
    if (span.track != TraceTrack::kStep) continue;
    if (std::string(span.name) == "prefill") {
      EXPECT_EQ(span.rows, static_cast<int32_t>(kPrompt.size()) - 1);
      ++prefills;
      continue;
    }
    EXPECT_STREQ(span.name, "step");
    EXPECT_EQ(span.rows, 1);
    std::map<std::string, Count> count = counts(spans, span.step);
    const std::map<std::string, int64_t> calls = {{"step", 1},
                                                  {"draft", 1},
                                                  {"forward", 1},
                                                  {"verify", 1},
                                                  {"emit", 1},
                                                  {"commit", 1},
                                                  {"observe", 1},
                                                  {"embed", 1},
                                                  {"rope_table", 1},
                                                  {"gather_rows", 1},
                                                  {"linear.head", 1},
                                                  {"rms_norm", kLayers + 1},
                                                  {"rope", 2 * kLayers},
                                                  {"store_kv", kLayers},
                                                  {"attention", kLayers},
                                                  {"add_rms_norm", kLayers},
                                                  {"add", kLayers},
                                                  {"linear.qkv", kLayers},
                                                  {"linear.output", kLayers},
                                                  {"linear.gate_up", kLayers},
                                                  {"linear.down", kLayers}};
    EXPECT_EQ(count.size(), calls.size());
    for (const auto& [name, number] : calls) EXPECT_EQ(count[name].calls, number) << name;

    const auto product = [&](const char* name, int64_t weights) {
      EXPECT_EQ(count[name].bytes, 4 * weights) << name;
      EXPECT_EQ(count[name].operations, 2 * weights) << name;
    };
    product("linear.qkv", kLayers * kWidth * (256 + 128 + 128));
    product("linear.output", kLayers * kWidth * 256);
    product("linear.gate_up", kLayers * kWidth * 2 * kFfn);
    product("linear.down", kLayers * kWidth * kFfn);
    product("linear.head", kWidth * kVocab);
    EXPECT_EQ(count["embed"].bytes, 2 * 4 * kWidth);
    EXPECT_EQ(count["verify"].bytes, 4 * kVocab);
    const int64_t positions = static_cast<int64_t>(kPrompt.size()) + steps;
    EXPECT_EQ(count["attention"].bytes, kLayers * positions * 2 * 2 * 64 * 2);
    EXPECT_EQ(count["attention"].operations, kLayers * positions * 4 * 4 * 64);
    ++steps;
  }
  EXPECT_EQ(prefills, 1);
  EXPECT_EQ(steps, 4);
  EXPECT_TRUE(engine->profile().empty());
}

TEST(Profile, SpansOfAStepNest) {
  const TinyModelFile file(model());
  const auto engine = load(file.path(), "ngram+recycle", true, 5);
  engine->generate(kPrompt, {.max_tokens = 12});
  const std::vector<TraceSpan> spans = engine->profile();
  const auto end = [](const TraceSpan& span) { return span.start_ns + span.duration_ns; };
  for (size_t i = 0; i < spans.size(); ++i) {
    for (size_t j = i + 1; j < spans.size(); ++j) {
      // The later one ended later: it is behind the earlier one, or around it.
      const bool behind = spans[j].start_ns >= end(spans[i]);
      const bool around = spans[j].start_ns <= spans[i].start_ns &&
                          end(spans[j]) >= end(spans[i]) && spans[j].track < spans[i].track &&
                          spans[j].step == spans[i].step;
      ASSERT_TRUE(behind || around) << spans[i].name << " and " << spans[j].name;
    }
  }
}

TEST(Profile, TheTextIsTheSameWithAndWithout) {
  const TinyModelFile file(model());
  TinyModel small = model();
  small.layers = 1;
  const TinyModelFile draft(small);
  for (const std::string& drafter :
       {std::string("none"), std::string("ngram+recycle"), "model:" + draft.path()}) {
    GenerateOptions options;
    options.max_tokens = 40;
    options.sampling.temperature = 0.8F;
    options.seed = 5;
    const auto with = load(file.path(), drafter, true, 6);
    const auto without = load(file.path(), drafter, false, 6);
    EXPECT_EQ(with->generate(kPrompt, options).tokens, without->generate(kPrompt, options).tokens)
        << drafter;
    EXPECT_FALSE(with->profile().empty());
  }
}

TEST(Profile, NothingOfLoadingIsRecordedAndMeasurementsHaveTheirOwnName) {
  const TinyModelFile file(model());
  const auto engine = load(file.path(), "ngram", true);  // measures its costs while it loads
  EXPECT_TRUE(engine->profile().empty());
  engine->measure_verify(4, 16, 2);
  std::map<std::string, int> steps;
  for (const TraceSpan& span : engine->profile()) {
    if (span.track == TraceTrack::kStep) steps[span.name + (" " + std::to_string(span.rows))] += 1;
  }
  EXPECT_EQ(steps, (std::map<std::string, int>{{"measure 4", 3}, {"prefill 16", 1}}));
}

TEST(Profile, MustBeAskedForWhenLoading) {
  const TinyModelFile file(model());
  EXPECT_THROW(load(file.path(), "none", false)->profile(), Error);
}

}  // namespace
}  // namespace forerun
