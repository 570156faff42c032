// Layers side by side: what a forward gives does not depend on where the attention is computed, and
// groups of one layer change nothing. That a group computes what it should is checked against the
// reference decoder (tests/python/test_layers.py).

#include "model/layer_groups.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "backend/simulated.h"
#include "base/error.h"
#include "model/model.h"
#include "model/tiny_model.h"

namespace forerun {
namespace {

constexpr int32_t kLayers = 6;
using Groups = std::vector<LayerGroup>;

const std::string& file() {
  static const test::TinyModelFile model({.architecture = "qwen3", .layers = kLayers, .seed = 12});
  return model.path();
}

std::string complaint(const std::string& text, int32_t layers = 10) {
  try {
    parse_layer_groups(text, layers, "option x");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadArgument);
    return error.what();
  }
  return "";
}

TEST(LayerGroups, ANumberGroupsAllLayersButTheFirstAndTheLast) {
  const auto of = [](const std::string& text, int32_t layers) {
    return parse_layer_groups(text, layers, "option x");
  };
  EXPECT_EQ(of("4", 10), (Groups{{1, 5}, {5, 9}}));
  EXPECT_EQ(of("4", 12), (Groups{{1, 5}, {5, 9}, {9, 11}}));
  EXPECT_EQ(of("4", 11), (Groups{{1, 5}, {5, 9}}));  // a layer alone is no group
  EXPECT_EQ(of("100", 5), (Groups{{1, 4}}));
  EXPECT_EQ(of("2147483646", 5), (Groups{{1, 4}}));
  for (const char* none : {"", "1", "0-0,3-3,7"}) EXPECT_TRUE(of(none, 10).empty()) << none;
  for (const int32_t few : {1, 2, 3}) EXPECT_TRUE(of("2", few).empty()) << few;
}

TEST(LayerGroups, AListNamesThem) {
  EXPECT_EQ(parse_layer_groups("0-1,2,4-9", 10, "option x"), (Groups{{0, 2}, {4, 10}}));
  EXPECT_EQ(largest_group(Groups{{0, 2}, {4, 10}}), 6);
  EXPECT_EQ(largest_group({}), 1);
}

TEST(LayerGroups, RefusesWhatIsNone) {
  for (const char* text : {"0", "1-10", "3-2", "2-4,4-5", "2-4,1", "a", "1-", "-1", "1-2,", ",",
                           "1-2-3", "99999999999", "1 - 2"}) {
    EXPECT_NE(complaint(text).find("option x is '" + std::string(text) + "'"), std::string::npos)
        << text;
  }
}

// A digit per layer: which back end computes its attention. The rest of the model is on the first.
std::shared_ptr<const Model> model_on(const std::string& digits, bool queues = false) {
  const std::shared_ptr<Backend> all[] = {make_cpu_backend(1), make_cpu_backend(2),
                                          make_cpu_backend(1)};
  ModelBackends backends;
  backends.head = all[0];
  for (const char digit : digits) backends.attention.push_back(all[digit - '0']);
  if (queues) {
    backends.queue_of = [](const auto&) { return std::make_shared<WorkQueue>(); };
  }
  return Model::load(open_checkpoint(file()), backends);
}

// A prompt, exact, then two levels of a tree with these groups, and the taps of the second.
std::vector<float> decode(const Model& model, const Groups& groups) {
  Workspace workspace(model, 32, 16, 3, largest_group(groups));
  KvCache cache(model.kv_places(), 200);
  std::vector<int32_t> prompt;
  for (int32_t i = 0; i < 20; ++i) prompt.push_back((i * 37) % 250);
  Batch batch;
  batch.add_causal(cache, prompt, 1);
  model.forward(batch, workspace);
  cache.commit_rows(20);
  DraftTree tree;
  tree.reset(9);
  for (int32_t i = 1; i < 8; ++i) tree.add((i - 1) / 2, 40 + i, 0.5F, DraftSource::kOther);
  const std::vector<int32_t> taps = {1, 2, kFinalTap};
  std::vector<float> values;
  for (const int32_t first : {0, 3}) {
    const std::vector<int32_t> nodes =
        first == 0 ? std::vector<int32_t>{0, 1, 2} : std::vector<int32_t>{3, 4, 5, 6, 7};
    batch.clear();
    batch.add_nodes(cache, tree, nodes, static_cast<int32_t>(nodes.size()));
    const Forward out =
        model.forward(batch, workspace, {model.all_layers(), nullptr, taps, groups});
    for (int32_t row = 0; row < out.logits.rows; ++row) {
      values.insert(values.end(), out.logits.row(row), out.logits.row(row) + out.logits.cols);
      values.insert(values.end(), out.taps.row(row), out.taps.row(row) + out.taps.cols);
    }
  }
  return values;
}

TEST(LayerGroups, GroupsOfOneLayerAreTheOrdinaryForward) {
  const auto model = model_on("000000");
  Groups single;
  for (int32_t i = 0; i < kLayers; ++i) single.push_back({i, i + 1});
  EXPECT_EQ(decode(*model, single), decode(*model, {}));
  EXPECT_NE(decode(*model, {{1, 3}}), decode(*model, {}));
}

TEST(LayerGroups, HaveTheBitsOfOneBackEndWhereverTheirAttentionIs) {
  const auto one = model_on("000000");
  for (const Groups& groups : {Groups{}, {{1, 5}}, {{1, 3}, {3, 6}}, {{0, 6}}}) {
    const std::vector<float> wanted = decode(*one, groups);
    for (const char* digits : {"010101", "012012", "001200", "111111", "122221"}) {
      for (const bool queues : {false, true}) {
        EXPECT_EQ(decode(*model_on(digits, queues), groups), wanted) << digits;
      }
    }
  }
}

TEST(LayerGroups, KeysAndValuesLieWhereTheAttentionIs) {
  const auto model = model_on("011200");
  const std::vector<KvPlace> places = model->kv_places();
  ASSERT_EQ(places.size(), 3U);
  EXPECT_EQ(places[0].layout.layers, 3);
  EXPECT_EQ(places[1].layout.layers, 2);
  EXPECT_EQ(places[2].layout.layers, 1);
  EXPECT_EQ(places[0].backend, &model->backend());
  EXPECT_EQ(model_on("111111")->kv_places().size(), 1U);
}

TEST(LayerGroups, LeftOutLayersAreNoPartOfAGroup) {
  const auto model = model_on("010101");
  Workspace workspace(*model, 8, 8, 0, 2);
  KvCache cache(model->kv_places(), 64);
  const std::vector<int32_t> tokens = {5, 6}, some = {0, 1, 4, 5}, one = {0, 1, 5};
  Batch batch;
  batch.add_causal(cache, tokens, 2);
  const Groups groups = {{1, 5}};
  const auto logits = [&](const LayerRun& run) {
    const Forward out = model->forward(batch, workspace, run);
    return std::vector<float>(out.logits.data, out.logits.row(2));
  };
  EXPECT_NE(logits({some, nullptr, {}, groups}), logits({some}));
  EXPECT_EQ(logits({one, nullptr, {}, groups}), logits({one}));
  const std::vector<int32_t> three = {1, 2, 3};  // more than the workspace is for
  EXPECT_THROW(logits({three, nullptr, {}, groups}), Error);
}

TEST(LayerGroups, OfLayersOnTwoBackEndsAreRefused) {
  const std::shared_ptr<Backend> first = make_cpu_backend(1), second = make_cpu_backend(1);
  const auto model = Model::load(open_checkpoint(file()),
                                 {{first, first, second, second, second, second}, second});
  EXPECT_NO_THROW(decode(*model, {{2, 5}}));
  EXPECT_THROW(decode(*model, {{1, 3}}), Error);
  EXPECT_THROW(Model::load(open_checkpoint(file()), {{}, first, {first, second}}), Error);
}

TEST(LayerGroups, AFailureOfABackEndComesOutAndLeavesTheOthersAsTheyWere) {
  auto device = std::make_shared<SimulatedDevice>();
  const std::shared_ptr<Backend> home = make_cpu_backend(1),
                                 other = make_simulated_backend(make_cpu_backend(1), device);
  const auto queue = std::make_shared<WorkQueue>();
  ModelBackends backends;
  backends.head = home;
  backends.attention = {home, home, other, home, other, home};
  backends.queue_of = [&](const auto&) { return queue; };
  const auto model = Model::load(open_checkpoint(file()), backends);
  const Groups groups = {{1, 5}};
  const std::vector<float> wanted = decode(*model, groups);
  const int64_t before = device->operations;
  decode(*model, groups);
  const int64_t each = device->operations - before;
  for (int64_t at = 0; at < each; at += 7) {
    device->fails_at = device->operations + at;
    EXPECT_THROW(decode(*model, groups), Error) << at;
    device->fails_at = -1;
    ASSERT_EQ(decode(*model, groups), wanted) << at;
  }
}

}  // namespace
}  // namespace forerun
