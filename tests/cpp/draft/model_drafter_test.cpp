#include "draft/model_drafter.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "draft/contract.h"
#include "draft/early_exit.h"
#include "draft/on_a_cache.h"
#include "model/tiny_model.h"
#include "verify/sampler.h"

namespace forerun {
namespace {

constexpr int32_t kVocab = 260;
constexpr int32_t kContext = 256;

std::shared_ptr<const Model> tiny() {
  static const std::shared_ptr<const Model> model = [] {
    const test::TinyModelFile file({.layers = 1, .seed = 9});
    return Model::load(open_checkpoint(file.path()), make_cpu_backend(1));
  }();
  return model;
}

std::unique_ptr<ModelDrafter> drafter_with(const std::string& policy, int32_t top_k = 4,
                                           int32_t context = kContext) {
  return std::make_unique<ModelDrafter>(tiny(), make_policy(policy, top_k), context);
}

// Trained to be left after each of its three layers, says its file.
std::shared_ptr<const Model> nested() {
  static const std::shared_ptr<const Model> model = [] {
    const test::TinyModelFile file({.layers = 3, .seed = 5, .exits = {1, 2, 3}});
    return Model::load(open_checkpoint(file.path()), make_cpu_backend(1));
  }();
  return model;
}

std::unique_ptr<ModelDrafter> nested_drafter(double confidence, const std::string& policy) {
  return std::make_unique<ModelDrafter>(nested(), make_policy(policy, 4), kContext, confidence);
}

// Plain decoding by the same model, one row at a time.
std::vector<int32_t> continued(std::vector<int32_t> context, int32_t tokens, Sampling sampling,
                               uint64_t seed) {
  Workspace workspace(*tiny(), 1, 1);
  KvCache cache(tiny()->backend(), tiny()->kv_layout(), kContext);
  Sampler sampler(std::move(sampling), seed, kVocab);
  const size_t prompt = context.size();
  for (size_t at = 0; at + 1 < prompt + static_cast<size_t>(tokens); ++at) {
    Batch batch;
    batch.add_causal(cache, std::span(context).subspan(at, 1), 1);
    const Forward out = tiny()->forward(batch, workspace);
    cache.commit_rows(1);
    if (at + 1 < context.size()) continue;
    const std::span<const float> row(out.logits.row(0), kVocab);
    context.push_back(sampler.sample(row, static_cast<int64_t>(context.size())));
  }
  return {context.begin() + static_cast<int64_t>(prompt), context.end()};
}

DraftTree proposed(Drafter& drafter, const std::vector<int32_t>& context, int32_t nodes,
                   const DraftNoise& noise) {
  DraftTree tree;
  tree.reset(context.back());
  drafter.propose(context, {nodes}, noise, tree);
  return tree;
}

int32_t depth_along(const DraftTree& tree, const std::vector<int32_t>& tokens) {
  int32_t depth = 0;
  for (int32_t node = 0; depth < static_cast<int32_t>(tokens.size()); ++depth) {
    node = tree.child_with(node, tokens[static_cast<size_t>(depth)]);
    if (node < 0) break;
  }
  return depth;
}

TEST(ModelDrafter, KeepsTheContractOfDraftersForEveryPolicyAndTemperature) {
  for (const Method& method : policy_methods()) {
    const std::string policy = method.name;
    for (const float temperature : {0.0F, 0.8F}) {
      test::DrafterContract contract;
      contract.shares_state = policy == "static";  // its rates follow what was accepted
      contract.vocab = kVocab;
      contract.rounds = 20;
      contract.noise = {17, temperature};
      contract.make = [&policy] { return drafter_with(policy); };
      contract.check(5);
    }
  }
}

TEST(ModelDrafter, ItsGreedyChainIsTheTextThatItsModelWrites) {
  const std::vector<int32_t> prompt = {72, 101, 108, 108, 111, 44, 32};
  const auto drafter = drafter_with("chain");
  drafter->begin(prompt);
  const std::vector<int32_t> text = continued(prompt, 20, {}, 0);
  EXPECT_EQ(depth_along(proposed(*drafter, prompt, 12, {}), text), 12);
  std::vector<int32_t> context = prompt;
  context.insert(context.end(), text.begin(), text.begin() + 8);
  const DraftTree tree;
  drafter->observe(context, {&tree, {}, 0, {}, 0});
  EXPECT_EQ(drafter->cached(),
            static_cast<int32_t>(context.size()) - 1);  // true guesses keep their rows
  EXPECT_EQ(depth_along(proposed(*drafter, context, 12, {}), {text.begin() + 8, text.end()}), 12);
}

TEST(ModelDrafter, WithTheTargetsNoiseItGuessesWhatTheTargetDraws) {
  int32_t right = 0, blind = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const std::vector<int32_t> prompt = {65, static_cast<int32_t>(seed) + 70, 66};
    const std::vector<int32_t> text =
        continued(prompt, 6, {.temperature = 0.7F, .top_k = 40}, seed);
    right += depth_along(proposed(*drafter_with("chain"), prompt, 6, {seed, 0.7F}), text);
    blind += depth_along(proposed(*drafter_with("chain"), prompt, 6, {seed + 1000, 0.7F}), text);
  }
  EXPECT_GE(right, 60);  // of 72: the sampler keeps 40 tokens, the drafter 64
  EXPECT_LT(blind, 30);
}

TEST(ModelDrafter, ADynamicTreeHoldsTheGreedyTextDeeperThanItsWidth) {
  const std::vector<int32_t> prompt = {1, 2, 3, 4};
  const auto drafter = drafter_with("auto");
  const DraftTree tree = proposed(*drafter, prompt, 16, {});
  EXPECT_EQ(tree.drafted(), 16);
  EXPECT_GE(depth_along(tree, continued(prompt, 6, {}, 0)), 2);
  EXPECT_GT(drafter->expected_ms(4), 0.0);
}

TEST(ModelDrafter, LeavesItsModelWhereATargetThatDraftsForItselfWould) {
  const std::vector<int32_t> prompt = {72, 101, 108, 108, 111, 44, 32, 101, 108};
  for (const double confidence : {0.0, 0.02, 0.04, 1.0}) {
    for (const DraftNoise& noise : {DraftNoise{}, DraftNoise{9, 0.8F}}) {
      test::OnACache whole(
          nested(), kContext,
          std::make_unique<EarlyExitDrafter>(nested(), ExitPlan::parse("", "1,2,3", confidence, 3),
                                             make_policy("auto", 4)));
      const auto drafter = nested_drafter(confidence, "auto");
      test::DrafterContract::expect_equal(proposed(*drafter, prompt, 30, noise),
                                          proposed(whole, prompt, 30, noise));
    }
  }
}

TEST(ModelDrafter, KeepsTheContractWithNestedExits) {
  for (const double confidence : {0.0, 0.1, 0.3, 1.0}) {
    for (const char* policy : {"chain", "eagle2"}) {
      test::DrafterContract contract;
      contract.vocab = kVocab;
      contract.rounds = 20;
      contract.noise = {17, 0.8F};
      contract.make = [&] { return nested_drafter(confidence, policy); };
      contract.check(5);
    }
  }
}

TEST(ModelDrafter, KeepsTrueGuessesOnlyOfNodesThatWentThroughTheWholeModel) {
  const std::vector<int32_t> prompt = {72, 101, 108, 108, 111, 44, 32};
  const auto length = static_cast<int32_t>(prompt.size());
  for (const bool sure : {true, false}) {
    const auto drafter = nested_drafter(sure ? 0.0 : 1.0, "chain");
    const DraftTree tree = proposed(*drafter, prompt, 6, {});
    ASSERT_EQ(tree.drafted(), 6);
    std::vector<int32_t> context = prompt, path = {0};
    for (int32_t node = 1; node <= 6; ++node) context.push_back(tree.token()[node]);
    for (int32_t node = 1; node <= 6; ++node) path.push_back(node);
    context.push_back(7);
    drafter->observe(context, {&tree, path, 7, {}, 0});
    EXPECT_EQ(drafter->cached(), sure ? length - 1 : length + 5);  // the last guess was not opened
  }
}

// Of eight layers, with the attention of some side by side.
std::unique_ptr<ModelDrafter> grouped_drafter(const std::string& groups,
                                              const std::string& policy) {
  static const std::shared_ptr<const Model> model = [] {
    const test::TinyModelFile file({.layers = 8, .seed = 6});
    return Model::load(open_checkpoint(file.path()), make_cpu_backend(1));
  }();
  return std::make_unique<ModelDrafter>(model, make_policy(policy, 4), kContext,
                                        ExitPlan{}.confidence, nullptr,
                                        parse_layer_groups(groups, 8, "groups"));
}

// Among it, that a proposal is that of a fresh drafter: no row of a grouped guess stays.
TEST(ModelDrafter, KeepsTheContractWithLayersSideBySide) {
  for (const char* policy : {"chain", "eagle2"}) {
    test::DrafterContract contract;
    contract.vocab = kVocab;
    contract.rounds = 20;
    contract.noise = {17, 0.8F};
    contract.make = [&] { return grouped_drafter("3", policy); };
    contract.check(5);
  }
}

TEST(ModelDrafter, LayersSideBySideChangeGuessesBelowTheFirstLevelOnly) {
  const std::vector<int32_t> prompt = {72, 101, 108, 108, 111, 44, 32};
  const DraftTree exact = proposed(*grouped_drafter("", "chain"), prompt, 8, {});
  test::DrafterContract::expect_equal(proposed(*grouped_drafter("1", "chain"), prompt, 8, {}),
                                      exact);
  const DraftTree fuzzy = proposed(*grouped_drafter("6", "chain"), prompt, 8, {});
  EXPECT_EQ(fuzzy.token()[1], exact.token()[1]);
  EXPECT_EQ(fuzzy.score()[1], exact.score()[1]);
  EXPECT_NE(fuzzy.score()[2], exact.score()[2]);
}

TEST(ModelDrafter, WithLayersSideBySideTrueGuessesAreReadAgain) {
  const std::vector<int32_t> prompt = {72, 101, 108, 108, 111, 44, 32};
  const auto length = static_cast<int32_t>(prompt.size());
  for (const bool exact : {true, false}) {
    const auto drafter = grouped_drafter(exact ? "" : "3", "chain");
    const DraftTree tree = proposed(*drafter, prompt, 6, {});
    std::vector<int32_t> context = prompt, path = {0, 1, 2, 3};
    for (int32_t node = 1; node <= 3; ++node) context.push_back(tree.token()[node]);
    context.push_back(7);
    drafter->observe(context, {&tree, path, 7, {}, 0});
    EXPECT_EQ(drafter->cached(), exact ? length + 3 : length);
  }
}

TEST(ModelDrafter, ProposesNothingBeyondItsContext) {
  const auto drafter = drafter_with("chain", 4, 8);
  EXPECT_EQ(proposed(*drafter, {1, 2, 3, 4, 5, 6, 7, 8}, 5, {}).drafted(), 0);
  EXPECT_EQ(proposed(*drafter, {1, 2, 3, 4, 5, 6}, 5, {}).drafted(), 2);
}

}  // namespace
}  // namespace forerun
