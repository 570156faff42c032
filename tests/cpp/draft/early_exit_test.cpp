#include "draft/early_exit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "draft/contract.h"
#include "draft/model_drafter.h"
#include "draft/on_a_cache.h"
#include "model/tiny_model.h"

namespace forerun {
namespace {

constexpr int32_t kVocab = 260;
constexpr int32_t kContext = 256;

// The first `layers` layers are the same in all of them.
std::shared_ptr<const Model> model_of(int32_t layers) {
  static std::map<int32_t, std::shared_ptr<const Model>> models;
  auto& model = models[layers];
  if (!model) {
    const test::TinyModelFile file({.layers = layers, .seed = 5});
    model = Model::load(open_checkpoint(file.path()), make_cpu_backend(1));
  }
  return model;
}
std::shared_ptr<const Model> target() { return model_of(3); }

std::unique_ptr<Drafter> drafter_with(const ExitPlan& plan, const std::string& policy = "auto") {
  return std::make_unique<test::OnACache>(
      target(), kContext,
      std::make_unique<EarlyExitDrafter>(target(), plan, make_policy(policy, 4)));
}

ExitPlan plan_of(const std::string& exits, double confidence = 0.6, const std::string& skip = "") {
  return ExitPlan::parse(skip, exits, confidence, 3);
}

DraftTree proposed(Drafter& drafter, const std::vector<int32_t>& context, int32_t nodes,
                   const DraftNoise& noise = {}) {
  DraftTree tree;
  tree.reset(context.back());
  drafter.propose(context, {nodes}, noise, tree);
  return tree;
}

void expect_equal(const DraftTree& a, const DraftTree& b) {
  EXPECT_TRUE(std::ranges::equal(a.token(), b.token()));
  EXPECT_TRUE(std::ranges::equal(a.parent(), b.parent()));
  EXPECT_TRUE(std::ranges::equal(a.score(), b.score()));
}

struct Choice {
  int32_t token;
  double probability;
};

// By a pass over the whole context with a cache of its own.
Choice likeliest(const Model& model, const std::vector<int32_t>& context) {
  KvCache cache(model.backend(), model.kv_layout(), kContext);
  Workspace workspace(model, kContext, 1);
  Batch batch;
  batch.add_causal(cache, context, 1);
  const float* logits = model.forward(batch, workspace).logits.row(0);
  const auto token = static_cast<int32_t>(std::max_element(logits, logits + kVocab) - logits);
  std::vector<double> weights(logits, logits + kVocab);
  for (double& weight : weights) weight = std::exp(weight - logits[token]);
  std::sort(weights.begin(), weights.end(), std::greater<>());
  double total = 0.0;
  for (int32_t i = 0; i < LevelDrafter::kCandidates; ++i) total += weights[i];
  return {token, 1.0 / total};
}

const std::vector<int32_t> kPrompt = {72, 101, 108, 108, 111, 44, 32, 101, 108};

TEST(EarlyExit, DraftsWhatASmallerModelOfItsFirstLayersDrafts) {
  for (const int32_t layers : {1, 2}) {
    for (const DraftNoise& noise : {DraftNoise{}, DraftNoise{9, 0.8F}}) {
      ModelDrafter small(model_of(layers), make_policy("auto", 4), kContext);
      const auto drafter = drafter_with(plan_of(std::to_string(layers)));
      const DraftTree tree = proposed(*drafter, kPrompt, 20, noise);
      EXPECT_EQ(tree.drafted(), 20);
      expect_equal(tree, proposed(small, kPrompt, 20, noise));
    }
  }
}

TEST(EarlyExit, ANodeOfLowConfidenceGoesOnToTheNextExitAndTakesItsAncestorsAlong) {
  int32_t early = 0, late = 0;
  for (int32_t seed = 0; seed < 6; ++seed) {
    std::vector<int32_t> context = kPrompt;
    context.push_back(60 + seed);
    std::vector<double> seen;
    for (std::vector<int32_t> at = context; at.size() < context.size() + 8;) {
      seen.push_back(likeliest(*model_of(1), at).probability);
      at.push_back(likeliest(*model_of(1), at).token);
    }
    std::nth_element(seen.begin(), seen.begin() + 4, seen.end());
    const double confidence = seen[4] + 1e-9;
    const DraftTree chain =
        proposed(*drafter_with(plan_of("1,2,3", confidence), "chain"), context, 8);
    ASSERT_EQ(chain.drafted(), 8);
    for (int32_t node = 0; node < 8; ++node) {
      Choice wanted = likeliest(*model_of(1), context);
      const bool stays = wanted.probability >= confidence;
      if (!stays) wanted = likeliest(*model_of(2), context);
      if (wanted.probability < confidence) wanted = likeliest(*model_of(3), context);
      (stays ? early : late) += 1;
      EXPECT_EQ(chain.token()[node + 1], wanted.token) << seed << " " << node;
      context.push_back(chain.token()[node + 1]);
    }
  }
  EXPECT_GT(early, 5);
  EXPECT_GT(late, 5);
}

TEST(EarlyExit, WithoutConfidenceInAnyExitEveryNodeRunsToTheLast) {
  const DraftTree whole = proposed(*drafter_with(plan_of("3")), kPrompt, 30);
  expect_equal(proposed(*drafter_with(plan_of("1,2", 1.0)), kPrompt, 30),
               proposed(*drafter_with(plan_of("2")), kPrompt, 30));
  expect_equal(proposed(*drafter_with(plan_of("1,2,3", 1.0)), kPrompt, 30), whole);
}

TEST(EarlyExit, KeepsTheContractOfDrafters) {
  for (const auto& [exits, skip] : {std::pair{"1,3", ""}, {"2", ""}, {"", "1"}}) {
    for (const float temperature : {0.0F, 0.8F}) {
      test::DrafterContract contract;
      contract.vocab = kVocab;
      contract.rounds = 15;
      contract.noise = {3, temperature};
      contract.make = [&] { return drafter_with(plan_of(exits, 0.05, skip)); };
      contract.check(11);
    }
  }
}

TEST(EarlyExit, ProposesNothingWithoutTheCacheOfItsContext) {
  EarlyExitDrafter drafter(target(), plan_of("1"), make_policy("auto", 4));
  EXPECT_EQ(proposed(drafter, kPrompt, 8).drafted(), 0);
  KvCache empty(target()->backend(), target()->kv_layout(), kContext);
  drafter.borrow(empty);
  EXPECT_EQ(proposed(drafter, kPrompt, 8).drafted(), 0);
  EXPECT_GT(proposed(drafter, {65}, 8).drafted(), 0);
}

TEST(ExitPlan, CountsTheLayersThatAreKeptUpToEachExit) {
  const ExitPlan plan = ExitPlan::parse("2-4,7", "3,6,10", 0.5, 12);
  EXPECT_EQ(plan.layers, (std::vector<int32_t>{0, 1, 5, 6, 8, 9}));
  EXPECT_EQ(plan.exits, (std::vector<int32_t>{2, 3, 6}));
  EXPECT_EQ(ExitPlan::parse("", "", 0.5, 3).layers, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(ExitPlan::parse("0,2", "", 0.5, 3).layers, (std::vector<int32_t>{1}));
}

TEST(ExitPlan, RefusesWhatIsNotAPartOfTheTarget) {
  for (const auto& [skip, exits] : {std::pair{"12", ""},
                                    {"a", ""},
                                    {"3-1", ""},
                                    {"1,", ""},
                                    {"-1", ""},
                                    {"0-11", ""},
                                    {"", "0"},
                                    {"", "13"},
                                    {"", "4,4"},
                                    {"", "6,3"},
                                    {"4-7", "4,8"},
                                    {"0-3", "4"}}) {
    EXPECT_THROW(ExitPlan::parse(skip, exits, 0.5, 12), Error) << skip << " | " << exits;
  }
}

}  // namespace
}  // namespace forerun
