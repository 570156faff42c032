#include "model/config.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "model/model.h"
#include "model/tiny_model.h"
#include "text/memory_checkpoint.h"

namespace forerun {
namespace {

// The error of loading a model, as (kind, text).
std::pair<ErrorKind, std::string> refusal(const test::TinyModel& shape) {
  const test::TinyModelFile file(shape);
  try {
    Model::load(open_checkpoint(file.path()), make_cpu_backend(1));
  } catch (const Error& error) {
    return {error.kind(), error.what()};
  }
  return {ErrorKind::kDevice, "loaded"};
}

bool names(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

TEST(ModelConfig, RefusesAnUnknownArchitectureByName) {
  const auto [kind, text] = refusal({.architecture = "mamba"});
  EXPECT_EQ(kind, ErrorKind::kUnsupported);
  EXPECT_TRUE(names(text, "mamba")) << text;
}

TEST(ModelConfig, RefusesHeadsThatDoNotGroup) {
  const auto [kind, text] = refusal({.heads = 4, .kv_heads = 3});
  EXPECT_EQ(kind, ErrorKind::kBadFile);
  EXPECT_TRUE(names(text, "head")) << text;
}

TEST(ModelConfig, RefusesZeroLayers) {
  const auto [kind, text] = refusal({.layers = 0});
  EXPECT_EQ(kind, ErrorKind::kBadFile);
  EXPECT_TRUE(names(text, "block_count")) << text;
}

TEST(ModelConfig, RefusesAnOddHeadWidth) {
  const auto [kind, text] = refusal({.dtype = DType::kF32, .head_dim = 63});
  EXPECT_EQ(kind, ErrorKind::kBadFile);
  EXPECT_TRUE(names(text, "even")) << text;
}

TEST(ModelConfig, RefusesExitsThatAreNotLayersThatRise) {
  for (const std::vector<int32_t>& exits : {std::vector{0, 2}, {2, 1}, {1, 1}, {1, 3}, {-1}}) {
    const auto [kind, text] = refusal({.layers = 2, .exits = exits});
    EXPECT_EQ(kind, ErrorKind::kBadFile);
    EXPECT_TRUE(names(text, "forerun.exits")) << text;
  }
}

ModelConfig config_of(const test::TinyModel& shape) {
  return read_model_config(*open_checkpoint(test::TinyModelFile(shape).path()));
}

// What llama.cpp makes of these keys (its loader and ggml's rope_yarn), worked out by hand: pair 3
// of head width 64 turns by 10000^(-6/64) a position.
TEST(ModelConfig, ReadsRopeScalingAsLlamaCppDoes) {
  using Scaling = RopeConfig::Scaling;
  using Numbers = std::vector<std::pair<std::string, float>>;
  const double plain = std::pow(10000.0, -6.0 / 64.0);
  const auto turn = [](const RopeConfig& rope) { return rope_frequencies(rope)[3]; };
  const auto with = [](const std::string& type, const Numbers& numbers) {
    return config_of({.head_dim = 64, .rope_scaling = type, .rope_numbers = numbers}).rope;
  };
  EXPECT_DOUBLE_EQ(turn(with("", {})), plain);
  EXPECT_DOUBLE_EQ(turn(with("", {{"rope.scaling.factor", 4.0F}})), plain / 4);
  EXPECT_DOUBLE_EQ(turn(with("", {{"rope.scale_linear", 4.0F}})), plain / 4);
  EXPECT_DOUBLE_EQ(turn(with("none", {{"rope.scaling.factor", 4.0F}})), plain);
  RopeConfig divided = with("linear", {{"rope.scaling.factor", 4.0F}});
  divided.frequency_divisors.assign(32, 2.0F);
  EXPECT_DOUBLE_EQ(turn(divided), plain / 8);
  divided.scaling = Scaling::kLlama3;
  EXPECT_DOUBLE_EQ(turn(divided), plain / 2);

  const double own = 0.1 * std::log(4.0) + 1.0;
  EXPECT_DOUBLE_EQ(rope_magnitude(with("yarn", {{"rope.scaling.factor", 4.0F}})), own);
  const Numbers more = {{"rope.scaling.factor", 4.0F}, {"rope.scaling.attn_factor", 1.5F}};
  EXPECT_NEAR(rope_magnitude(with("yarn", more)), 1.5 * own, 1e-6);
  EXPECT_NEAR(rope_magnitude(with("linear", more)), 1.5, 1e-6);
  EXPECT_DOUBLE_EQ(rope_magnitude(with("linear", {{"rope.scaling.factor", 4.0F}})), 1.0);
}

TEST(ModelConfig, RefusesARopeFactorThatDividesByNothing) {
  const auto [kind, text] =
      refusal({.rope_scaling = "linear", .rope_numbers = {{"rope.scaling.factor", 1e-20F}}});
  EXPECT_EQ(kind, ErrorKind::kBadFile);
  EXPECT_TRUE(names(text, "rope.scaling.factor")) << text;
}

TEST(ModelConfig, StaysWithinASlidingWindow) {
  EXPECT_EQ(config_of({.context = 500, .window = 64}).trained_context, 64);
  EXPECT_EQ(config_of({.context = 50, .window = 64}).trained_context, 50);
  EXPECT_EQ(config_of({.context = 0, .window = 64}).trained_context, 64);
}

TEST(ModelConfig, NamesFromAFileArePrintable) {
  MemoryCheckpoint file(CheckpointFormat::kGguf);
  file.set("general.architecture", std::string("\x1b[2J\xff"));
  try {
    read_model_config(file);
    ADD_FAILURE() << "read";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
    EXPECT_TRUE(names(error.what(), "'\\x1b[2J\\xff'")) << error.what();
  }
}

TEST(ModelConfig, ReadsTheShapeItWrites) {
  const test::TinyModelFile file({.architecture = "qwen3", .layers = 3, .context = 77});
  const ModelConfig c = read_model_config(*open_checkpoint(file.path()));
  EXPECT_EQ(c.architecture, "qwen3");
  EXPECT_EQ(c.layers, 3);
  EXPECT_EQ(c.heads, 4);
  EXPECT_EQ(c.kv_heads, 2);
  EXPECT_EQ(c.trained_context, 77);
  EXPECT_FALSE(c.rope.interleaved);
  EXPECT_FALSE(c.tied_head);
}

TEST(Model, RefusesATokenOutsideTheVocabularyAndATooLargeBatch) {
  const test::TinyModelFile file({});
  const std::shared_ptr<Backend> backend = make_cpu_backend(1);
  const auto model = Model::load(open_checkpoint(file.path()), backend);
  Workspace workspace(*model, 4, 4);
  KvCache cache(*backend, model->kv_layout(), 100);
  Batch batch;
  batch.add_causal(cache, std::vector<int32_t>{1, 260}, 1);
  EXPECT_THROW(model->forward(batch, workspace), Error);
  batch.clear();
  batch.add_causal(cache, std::vector<int32_t>{1, 2, 3, 4, 5}, 1);
  EXPECT_THROW(model->forward(batch, workspace), Error);
}

}  // namespace
}  // namespace forerun
