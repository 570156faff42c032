#include "draft/tree_policy.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "base/error.h"
#include "draft/beam_policies.h"
#include "draft/shape_policies.h"

namespace forerun {
namespace {

// q depends on the path of tokens; fixed scores with many ties.
class ToySource final : public ChildSource {
 public:
  explicit ToySource(uint32_t seed) : seed_(seed) {}
  int32_t levels = 0, widest = 0;
  double needed_reach = 0.0;

  std::vector<Guess> of(const std::vector<int32_t>& path, int32_t width) const {
    std::mt19937 random(seed_);
    for (const int32_t token : path) random.seed(random() + static_cast<uint32_t>(token) * 977U);
    std::vector<Guess> out;
    float left = 1.0F;
    for (int32_t i = 0; i < width; ++i) {
      const float q =
          random() % 5 == 0 && i == 0 ? 1.0F : left * 0.25F * static_cast<float>(random() % 4);
      left -= q;
      out.push_back({.token = i * 3 + 1,
                     .score = i == 0 ? std::max(q, left) : std::min(q, out.back().score)});
    }
    return out;
  }

  void open(std::span<const Guess>, std::span<const int32_t> frontier) override {
    ++levels;
    widest = std::max(widest, static_cast<int32_t>(frontier.size()));
  }
  void children(std::span<const Guess> pool, int32_t node, int32_t width,
                std::vector<Guess>& children) override {
    std::vector<int32_t> path;
    for (int32_t at = node; at > 0; at = pool[at].parent) path.insert(path.begin(), pool[at].token);
    children = of(path, width);
  }
  bool pays(double reach, const Budget&) const override { return reach >= needed_reach; }

 private:
  uint32_t seed_;
};

BeamPolicy beam(int32_t top_k) { return BeamPolicy("eagle2", {top_k, 0.0, false}); }

DraftTree grown(const TreePolicy& policy, ToySource& source, const Budget& budget,
                int32_t levels = 64) {
  DraftTree tree;
  tree.reset(0);
  TreeGrower().grow(*policy.clone(), source, budget, levels, DraftSource::kModel, tree);
  EXPECT_LE(tree.drafted(), budget.max_nodes);
  EXPECT_LE(tree.max_depth(), budget.max_depth);
  return tree;
}

std::vector<double> values_of(const DraftTree& tree) {
  std::vector<double> values = {1.0};
  for (int32_t i = 1; i < tree.size(); ++i) {
    values.push_back(values[static_cast<size_t>(tree.parent()[i])] *
                     static_cast<double>(tree.score()[i]));
  }
  values.erase(values.begin());
  std::sort(values.rbegin(), values.rend());
  return values;
}

TEST(TreePolicy, AWideBeamHoldsTheBestGuessesOfAllPaths) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    ToySource source(seed);
    const Budget budget{6, 3};
    // Oracle: every path of up to 3 of the 6 best tokens.
    std::vector<double> all;
    std::vector<std::pair<std::vector<int32_t>, double>> level = {{{}, 1.0}};
    for (int depth = 0; depth < 3; ++depth) {
      std::vector<std::pair<std::vector<int32_t>, double>> next;
      for (const auto& [path, value] : level) {
        for (const Guess& guess : source.of(path, 6)) {
          next.push_back({path, value * static_cast<double>(guess.score)});
          next.back().first.push_back(guess.token);
          all.push_back(next.back().second);
        }
      }
      level = next;
    }
    std::sort(all.rbegin(), all.rend());
    const std::vector<double> values = values_of(grown(beam(200), source, budget));
    ASSERT_EQ(values.size(), 6U);
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], all[i], 1e-6) << seed;
  }
}

TEST(TreePolicy, TheBeamAndTheSourceLimitALevel) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    ToySource source(seed);
    grown(beam(3), source, {40, 5});
    EXPECT_LE(source.widest, 3);
    EXPECT_LE(source.levels, 5);
  }
}

TEST(TreePolicy, AChainIsTheBestChildOfEachNode) {
  ToySource source(3);
  const DraftTree tree = grown(ChainPolicy(), source, {5, 64});
  std::vector<int32_t> path;
  for (int32_t i = 1; i < tree.size(); ++i) {
    EXPECT_EQ(tree.parent()[i], i - 1);
    EXPECT_EQ(tree.token()[i], source.of(path, 1)[0].token);
    path.push_back(tree.token()[i]);
  }
  EXPECT_EQ(tree.drafted(), 5);
  EXPECT_EQ(source.levels, 5);
}

TEST(TreePolicy, AStaticTreeHasTheSameShapeWhateverTheScores) {
  const std::vector<float> rates = {0.6F, 0.2F, 0.1F};
  ToySource a(1), b(2);
  const DraftTree x = grown(StaticPolicy(rates), a, {12, 64}),
                  y = grown(StaticPolicy(rates), b, {12, 64});
  ASSERT_EQ(x.size(), y.size());
  for (int32_t i = 0; i < x.size(); ++i) EXPECT_EQ(x.parent()[i], y.parent()[i]);
  const std::vector<double> values = values_of(x);
  const std::vector<double> expected = {0.6,  0.36, 0.216,   0.2,   0.1296, 0.12,
                                        0.12, 0.1,  0.07776, 0.072, 0.072,  0.072};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(values[i], expected[i], 1e-6);
}

TEST(TreePolicy, GrowthStopsWhereALevelDoesNotPayAndBelowTheLeastValue) {
  ToySource source(5);
  source.needed_reach = 2.0;  // more than any level reaches
  EXPECT_LE(grown(beam(4), source, {30, 20}).max_depth(), 1);
  EXPECT_EQ(source.levels, 1);
  ToySource plain(5);
  const DraftTree tree = grown(beam(4), plain, {30, 20, 0.3F});
  for (const double value : values_of(tree)) EXPECT_GE(value, 0.3F);
}

TEST(TreePolicy, UnknownNamesAndEmptyRatesAreRefused) {
  EXPECT_EQ(make_policy("chain", 4)->name(), "chain");
  EXPECT_EQ(make_policy("static", 4)->name(), "static");
  EXPECT_EQ(make_policy("auto", 4)->clone()->name(), "auto");
  EXPECT_THROW(make_policy("beam", 4), Error);
  EXPECT_THROW(make_policy("auto", 0), Error);
  EXPECT_THROW(StaticPolicy({}), Error);
}

}  // namespace
}  // namespace forerun
