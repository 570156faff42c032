// A model over several back ends computes what it computes on one, bit for bit.

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "model/model.h"
#include "model/tiny_model.h"
#include "tree/random_tree.h"

namespace forerun {
namespace {

constexpr int32_t kLayers = 4;

const std::string& file() {
  static const test::TinyModelFile model({.architecture = "qwen2", .layers = kLayers, .seed = 8});
  return model.path();
}

std::shared_ptr<Backend> cpu(int threads = 1) { return make_cpu_backend(threads); }

// A digit per layer and one for the head: which back end holds it.
std::shared_ptr<const Model> split(const std::string& digits) {
  const std::shared_ptr<Backend> all[] = {cpu(1), cpu(2), cpu(1)};
  ModelBackends backends;
  for (int32_t i = 0; i < kLayers; ++i) backends.layers.push_back(all[digits[i] - '0']);
  backends.head = all[digits[kLayers] - '0'];
  return Model::load(open_checkpoint(file()), backends);
}

std::vector<float> logits_of(const Forward& out) {
  std::vector<float> values;
  for (int32_t row = 0; row < out.logits.rows; ++row) {
    values.insert(values.end(), out.logits.row(row), out.logits.row(row) + out.logits.cols);
  }
  return values;
}

// A prompt, then trees of several shapes, each committed along its deepest path: all the logits.
std::vector<float> decode(const Model& model, uint32_t seed) {
  std::mt19937 random(seed);
  Workspace workspace(model, 128, 64);
  KvCache cache(model.kv_places(), 400);
  std::vector<int32_t> prompt(70);
  for (int32_t& token : prompt) token = static_cast<int32_t>(random() % 256);
  Batch batch;
  batch.add_causal(cache, prompt, 2);
  std::vector<float> all = logits_of(model.forward(batch, workspace));
  cache.commit_rows(70);
  for (const int32_t nodes : {1, 2, 5, 17, 40}) {
    DraftTree tree;
    tree.reset(static_cast<int32_t>(random() % 256));
    for (int32_t i = 1; i < nodes; ++i) {
      const auto parent = static_cast<int32_t>(random() % static_cast<uint32_t>(tree.size()));
      tree.add(parent, static_cast<int32_t>(random() % 256), 0.5F, DraftSource::kOther);
    }
    batch.clear();
    batch.add_tree(cache, tree);
    const std::vector<float> logits = logits_of(model.forward(batch, workspace));
    all.insert(all.end(), logits.begin(), logits.end());
    std::vector<int32_t> path;
    for (int32_t node = tree.size() - 1; node >= 0; node = tree.parent()[node]) {
      path.insert(path.begin(), node);
    }
    cache.commit(path);
  }
  return all;
}

TEST(SplitModel, HasTheBitsOfOneBackEndForEverySplitAndTreeShape) {
  for (const uint32_t seed : {1U, 2U}) {
    const std::vector<float> wanted = decode(*Model::load(open_checkpoint(file()), cpu()), seed);
    for (const char* digits : {"00000", "01111", "00111", "00011", "00001", "00110", "01010",
                               "01201", "01220", "11110"}) {
      EXPECT_EQ(decode(*split(digits), seed), wanted) << digits;
    }
  }
}

TEST(SplitModel, KeysAndValuesLieWithTheirLayers) {
  const auto model = split("01002");
  const std::vector<KvPlace> places = model->kv_places(DType::kF32);
  ASSERT_EQ(places.size(), 2U);
  EXPECT_EQ(places[0].layout.layers, 3);
  EXPECT_EQ(places[1].layout.layers, 1);
  EXPECT_EQ(places[0].backend, &model->backend_of(3));
  EXPECT_EQ(places[1].backend, &model->backend_of(1));
  EXPECT_EQ(places[0].layout.page_bytes() + places[1].layout.page_bytes(),
            model->kv_layout(DType::kF32).page_bytes());
}

TEST(SplitModel, ForksAndRewindsOfItsCacheStandAlone) {
  const auto model = split("00110");
  Workspace workspace(*model, 16, 16);
  const std::vector<int32_t> tokens = {5, 6, 7, 8, 9, 10};
  const auto last_logits = [&](KvCache& cache, std::vector<int32_t> more) {
    Batch batch;
    batch.add_causal(cache, more, 1);
    return logits_of(model->forward(batch, workspace));
  };
  KvCache cache(model->kv_places(), 100);
  last_logits(cache, tokens);
  cache.commit_rows(6);
  KvCache twin = cache.fork();
  const std::vector<float> wanted = last_logits(cache, {11});
  twin.rewind(3);
  last_logits(twin, {20, 21, 22});
  twin.commit_rows(3);
  EXPECT_NE(last_logits(twin, {11}), wanted);
  EXPECT_EQ(last_logits(cache, {11}), wanted);
  twin.rewind(3);
  last_logits(twin, {8, 9, 10});
  twin.commit_rows(3);
  EXPECT_EQ(last_logits(twin, {11}), wanted);
}

TEST(SplitModel, GoesOnWhereAPartOfItStoppedAcrossABorder) {
  const auto model = split("00110");
  const auto whole = Model::load(open_checkpoint(file()), cpu());
  const std::vector<int32_t> tokens = {5, 6, 7};
  const std::vector<int32_t> first = {0, 1}, rest = {2, 3}, all = {0, 1, 2, 3};
  const auto run = [&](const Model& m, bool in_two) {
    Workspace workspace(m, 8, 8);
    KvCache cache(m.kv_places(), 64);
    Batch batch;
    batch.add_causal(cache, tokens, 3);
    if (!in_two) return logits_of(m.forward(batch, workspace, {all, nullptr}));
    const Forward half = m.forward(batch, workspace, {first, nullptr});
    return logits_of(m.forward(batch, workspace, {rest, &half.stream}));
  };
  EXPECT_EQ(run(*model, true), run(*whole, false));
  EXPECT_EQ(run(*model, false), run(*whole, false));
}

TEST(SplitModel, HandsOutTheSameTaps) {
  const std::vector<int32_t> tokens = {5, 6, 7}, all = {0, 1, 2, 3}, taps = {0, 2, kFinalTap, 3};
  const auto run = [&](const Model& m) {
    Workspace workspace(m, 8, 8, 4);
    KvCache cache(m.kv_places(), 64);
    Batch batch;
    batch.add_causal(cache, tokens, 3);
    const Forward out = m.forward(batch, workspace, {all, nullptr, taps});
    std::vector<float> values = logits_of(out);
    values.insert(values.end(), out.taps.data, out.taps.row(3));
    return values;
  };
  const std::vector<float> wanted = run(*Model::load(open_checkpoint(file()), cpu()));
  for (const char* digits : {"00110", "00011", "01010", "00001"}) {
    EXPECT_EQ(run(*split(digits)), wanted) << digits;
  }
}

TEST(SplitModel, MayLoadTheFirstLayersAlone) {
  const auto backend = cpu();
  const auto part = Model::load(open_checkpoint(file()), {{backend, backend}, backend});
  const auto whole = Model::load(open_checkpoint(file()), backend);
  EXPECT_EQ(part->config().layers, 2);
  const std::vector<int32_t> two = {0, 1}, tokens = {5, 6, 7};
  const auto run = [&](const Model& m) {
    Workspace workspace(m, 8, 8);
    KvCache cache(m.kv_places(), 64);
    Batch batch;
    batch.add_causal(cache, tokens, 1);
    return logits_of(m.forward(batch, workspace, {two, nullptr}));
  };
  EXPECT_EQ(run(*part), run(*whole));
  EXPECT_LT(part->weights_bytes(), whole->weights_bytes());
}

TEST(SplitModel, RefusesMoreBackEndsThanLayersAndACacheOfOneBackEnd) {
  const auto backend = cpu();
  const std::vector<std::shared_ptr<Backend>> many(kLayers + 1, backend);
  EXPECT_THROW(Model::load(open_checkpoint(file()), {many, backend}), Error);
  const auto model = split("00110");
  KvCache cache(model->backend(), model->kv_layout(), 64);
  Workspace workspace(*model, 8, 8);
  Batch batch;
  const std::vector<int32_t> tokens = {5};
  batch.add_causal(cache, tokens, 1);
  EXPECT_THROW(model->forward(batch, workspace), Error);
}

}  // namespace
}  // namespace forerun
