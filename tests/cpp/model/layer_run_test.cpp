#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "base/error.h"
#include "model/model.h"
#include "model/tiny_model.h"

namespace forerun {
namespace {

const std::vector<int32_t> kTokens = {3, 141, 59, 26, 5};

std::shared_ptr<const Model> tiny() {
  static const std::shared_ptr<const Model> model = [] {
    const test::TinyModelFile file({.layers = 3, .seed = 4});
    return Model::load(open_checkpoint(file.path()), make_cpu_backend(1));
  }();
  return model;
}

struct Outcome {
  std::vector<float> logits, stream;
};

Outcome run(std::vector<int32_t> layers, const std::vector<float>& start = {}) {
  const ModelConfig& config = tiny()->config();
  const auto rows = static_cast<int32_t>(kTokens.size());
  Workspace workspace(*tiny(), 8, 8);
  KvCache cache(tiny()->backend(), tiny()->kv_layout(), 64);
  Batch batch;
  batch.add_causal(cache, kTokens, rows);
  std::vector<float> values = start;
  const Tensor first(values.data(), rows, config.width);
  const Forward out = tiny()->forward(batch, workspace, {layers, start.empty() ? nullptr : &first});
  Outcome result;
  for (int32_t row = 0; row < rows; ++row) {
    const float* logits = out.logits.row(row);
    const float* stream = out.stream.row(row);
    result.logits.insert(result.logits.end(), logits, logits + config.vocab);
    result.stream.insert(result.stream.end(), stream, stream + config.width);
  }
  return result;
}

TEST(LayerRun, AForwardThatGoesOnWhereAnotherStoppedIsTheWholeForward) {
  const Outcome whole = run({0, 1, 2});
  for (const size_t stop : {size_t{1}, size_t{2}}) {
    std::vector<int32_t> first = {0, 1, 2}, second = {0, 1, 2};
    first.resize(stop);
    second.erase(second.begin(), second.begin() + static_cast<int64_t>(stop));
    const Outcome early = run(first);
    EXPECT_NE(early.logits, whole.logits);
    EXPECT_EQ(run(second, early.stream).logits, whole.logits);
  }
}

TEST(LayerRun, StartsFromTheEmbeddings) {
  const ModelConfig& config = tiny()->config();
  std::vector<float> rows(kTokens.size() * static_cast<size_t>(config.width));
  for (size_t i = 0; i < kTokens.size(); ++i) {
    tiny()->embedding(kTokens[i], std::span(rows).subspan(i * static_cast<size_t>(config.width),
                                                          static_cast<size_t>(config.width)));
  }
  EXPECT_EQ(run({0, 1, 2}, rows).logits, run({0, 1, 2}).logits);
  EXPECT_EQ(run({}).stream, rows);
}

TEST(LayerRun, ATapIsTheStreamThatALayerGetsAndLeavesTheForwardAsItIs) {
  const ModelConfig& config = tiny()->config();
  const auto rows = static_cast<int32_t>(kTokens.size());
  Workspace workspace(*tiny(), 8, 8, 4);
  KvCache cache(tiny()->backend(), tiny()->kv_layout(), 64);
  Batch batch;
  batch.add_causal(cache, kTokens, rows);
  const std::vector<int32_t> taps = {2, kFinalTap, 0, 1};
  const Forward out = tiny()->forward(batch, workspace, {tiny()->all_layers(), nullptr, taps});
  const std::vector<std::vector<int32_t>> before = {{0, 1}, {}, {}, {0}};
  const auto whole = run({0, 1, 2});
  for (int32_t row = 0; row < rows; ++row) {
    for (size_t tap = 0; tap < taps.size(); ++tap) {
      const float* found = out.taps.row(row) + static_cast<int64_t>(tap) * config.width;
      const std::vector<float> stream = run(before[tap]).stream;
      const float* expected = taps[tap] == kFinalTap ? out.hidden.row(row)
                                                     : &stream[size_t(row) * size_t(config.width)];
      EXPECT_EQ(std::memcmp(found, expected, sizeof(float) * size_t(config.width)), 0) << tap;
    }
    EXPECT_EQ(std::memcmp(out.logits.row(row), &whole.logits[size_t(row) * size_t(config.vocab)],
                          sizeof(float) * size_t(config.vocab)),
              0);
  }
}

TEST(LayerRun, RefusesTapsOfLayersThatAreNotRunAndMoreThanThereIsRoomFor) {
  Workspace workspace(*tiny(), 8, 8, 1);
  KvCache cache(tiny()->backend(), tiny()->kv_layout(), 64);
  Batch batch;
  batch.add_causal(cache, kTokens, 1);
  const std::vector<int32_t> first = {0};
  for (const std::vector<int32_t>& taps : {std::vector<int32_t>{1}, {-2}, {3}, {0, kFinalTap}}) {
    EXPECT_THROW(tiny()->forward(batch, workspace, {first, nullptr, taps}), Error);
  }
}

TEST(LayerRun, RefusesLayersAndStartsThatAreNotTheModels) {
  EXPECT_THROW(run({3}), Error);
  EXPECT_THROW(run({-1}), Error);
  const ModelConfig& config = tiny()->config();
  Workspace workspace(*tiny(), 8, 8);
  KvCache cache(tiny()->backend(), tiny()->kv_layout(), 64);
  Batch batch;
  batch.add_causal(cache, kTokens, 1);
  std::vector<float> values(1000);
  const Tensor narrow(values.data(), static_cast<int32_t>(kTokens.size()), 8);
  const std::vector<int32_t> layers = {0};
  EXPECT_THROW(tiny()->forward(batch, workspace, {layers, &narrow}), Error);
  std::vector<float> row(static_cast<size_t>(config.width));
  EXPECT_THROW(tiny()->embedding(config.vocab, row), Error);
}

}  // namespace
}  // namespace forerun
