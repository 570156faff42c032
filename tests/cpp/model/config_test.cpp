#include "model/config.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "model/model.h"
#include "model/tiny_model.h"

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
