// How policies draw: shapes, laws of shapes, stops.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "draft/beam_policies.h"
#include "draft/shape_policies.h"
#include "draft/slot_policies.h"
#include "verify/enumeration.h"
#include "verify/reference_sampler.h"

namespace forerun {
namespace {

using test::TableModel;

constexpr Proposal kRemoved = Proposal::kWithoutReplacement;

DraftTree grown(const TreePolicy& policy, const DrawNeed& need, const TableModel& model,
                const Budget& budget, uint64_t seed) {
  DraftTree tree;
  tree.reset(0);
  StepDice dice(seed, 1, NoiseStream::kDraft, NoiseStream::kDraft);
  const SlotRules* rules = policy.slots(need);
  EXPECT_NE(rules, nullptr) << policy.name();
  if (rules == nullptr) return tree;
  test::TableSource source(model);
  StopRules stop = policy.stop();
  SlotGrower().grow(*rules, source, {budget, 64, need.proposal, DraftSource::kModel, &stop}, dice,
                    tree);
  EXPECT_LE(tree.drafted(), budget.max_nodes) << policy.name();
  EXPECT_LE(tree.max_depth(), budget.max_depth) << policy.name();
  return tree;
}

std::vector<int32_t> children_of(const DraftTree& tree, int32_t node) {
  std::vector<int32_t> children;
  for (int32_t i = 1; i < tree.size(); ++i) {
    if (tree.parent()[i] == node) children.push_back(i);
  }
  return children;
}

// Sequoia's dynamic programme: the most expected acceptances of a tree of `nodes` and the root.
double best_tree(const std::vector<float>& rates, int32_t nodes, int32_t depth) {
  // best[n][b]: n nodes below a node whose next child has rank b; a child takes y of them itself.
  std::map<std::pair<int32_t, int32_t>, std::vector<double>> memo;
  const std::function<double(int32_t, int32_t, size_t)> best = [&](int32_t n, int32_t d,
                                                                   size_t rank) {
    if (n == 0 || d == 0 || rank == rates.size()) return 0.0;
    std::vector<double>& known = memo[{n, d}];
    known.resize(rates.size(), -1.0);
    if (known[rank] >= 0.0) return known[rank];
    double most = 0.0;
    for (int32_t below = 0; below < n; ++below) {
      most = std::max(
          most, rates[rank] * (1.0 + best(below, d - 1, 0)) + best(n - 1 - below, d, rank + 1));
    }
    memo[{n, d}][rank] = most;
    return most;
  };
  return best(nodes, depth, 0);
}

TEST(StaticPolicy, HasTheValueOfSequoiasDynamicProgramme) {
  const std::vector<float> rates = {0.6F, 0.15F, 0.07F, 0.04F, 0.02F};
  const TableModel model(6, 1);
  for (const int32_t nodes : {1, 2, 4, 8, 16, 24}) {
    for (const int32_t depth : {2, 5}) {
      const Budget budget{nodes, depth};
      const DraftTree tree = grown(StaticPolicy(rates), {kRemoved}, model, budget, 3);
      double value = 0.0;
      for (int32_t node = 1; node < tree.size(); ++node) {
        double product = 1.0;
        for (int32_t at = node; at > 0; at = tree.parent()[at]) {
          std::vector<int32_t> draws;
          tree.draws(tree.parent()[at], draws);
          product *=
              rates[static_cast<size_t>(std::find(draws.begin(), draws.end(), at) - draws.begin())];
        }
        value += product;
      }
      EXPECT_NEAR(value, best_tree(rates, nodes, depth), 1e-6) << nodes << " " << depth;
    }
  }
}

TEST(StaticPolicy, FitsItsRatesFromWhatWasAccepted) {
  StaticPolicy policy(std::vector<float>{0.5F, 0.4F, 0.1F});
  DraftTree tree;
  tree.reset(0);
  for (int32_t token = 1; token <= 3; ++token) tree.add(0, token, 0.5F, DraftSource::kHead);
  tree.add(0, 9, 0.5F, DraftSource::kNgram);  // somebody else's
  const std::vector<int32_t> hit = {0, 1}, second = {0, 2}, miss = {0};
  for (int i = 0; i < 2000; ++i) {
    const std::vector<int32_t>& path = i % 10 < 7 ? hit : i % 10 < 9 ? second : miss;
    policy.observe({&tree, path, 5, {}, 0}, DraftSource::kHead);
  }
  EXPECT_NEAR(policy.rates()[0], 0.7, 0.03);
  EXPECT_NEAR(policy.rates()[1], 0.2, 0.03);
  EXPECT_NEAR(policy.rates()[2], 0.0, 0.03);
}

TEST(SlotPolicies, HaveTheirShapes) {
  const TableModel model(5, 2);
  const auto constant = make_policy("rsd-c", 8, {{"rsd-c.branching", "3-2-1"}});
  const auto beam = make_policy("rsd-s", 8, {{"rsd-s.beam", "3"}});
  const auto greedy = make_policy("greedy-draft", 8, {{"greedy-draft.children", "3"}});
  for (uint64_t seed = 0; seed < 20; ++seed) {
    DraftTree tree = grown(*constant, {kRemoved}, model, {60, 4}, seed);
    EXPECT_EQ(tree.drafted(), 3 + 6 + 6 + 6);
    for (int32_t node = 0; node < tree.size(); ++node) {
      const size_t wanted[] = {3, 2, 1, 1, 0};
      EXPECT_EQ(children_of(tree, node).size(), wanted[tree.depth()[node]]);
    }
    tree = grown(*beam, {kRemoved}, model, {60, 4}, seed);
    std::vector<int32_t> level(6);
    for (const int32_t depth : tree.depth()) ++level[static_cast<size_t>(depth)];
    EXPECT_EQ(level, (std::vector<int32_t>{1, 3, 3, 3, 3, 0}));

    tree = grown(*greedy, {Proposal::kTopAndSample}, model, {9, 3}, seed);
    for (int32_t node = 0; node < tree.size(); ++node) {
      std::vector<int32_t> draws;
      tree.draws(node, draws);
      if (tree.law(node).q.empty()) continue;
      EXPECT_EQ(draws.size(), 1U);
      const DrawLaw law = tree.law(node);
      EXPECT_NEAR(std::accumulate(law.q.begin(), law.q.end(), 0.0), 1.0, 1e-12);
      const std::vector<double>& row = model.after(test::path_tokens(tree, node));
      for (const int32_t child :
           children_of(tree, node)) {  // chosen: nobody in the law is likelier
        if (child == draws[0]) continue;
        for (const int32_t token : law.tokens) {
          EXPECT_GE(row[static_cast<size_t>(tree.token()[child])], row[static_cast<size_t>(token)]);
        }
      }
    }
    tree = grown(*make_policy("chain", 8), {Proposal::kIndependent, true}, model, {5, 64}, seed);
    EXPECT_EQ(tree.max_depth(), 5);
    tree = grown(*make_policy("chain", 8, {{"chain.chains", "3"}}), {Proposal::kIndependent}, model,
                 {12, 4}, seed);
    std::vector<int32_t> draws;
    for (int32_t node = 0; node < tree.size(); ++node) {  // as many chains leave a node as reach it
      tree.draws(node, draws);
      std::vector<int32_t> here;
      if (node > 0) tree.draws(tree.parent()[node], here);
      const auto reached = node == 0 ? 3 : std::count(here.begin(), here.end(), node);
      EXPECT_EQ(static_cast<int64_t>(draws.size()), tree.depth()[node] < 4 ? reached : 0);
    }
  }
}

// DySpec draws the best slot next: the value of a node's slot is q of the path, times what is left.
TEST(DyspecPolicy, FillsTheSlotsThatAreMostLikelyReached) {
  const TableModel model(5, 4);
  for (const char* form : {"heap", "threshold"}) {
    const auto policy = make_policy("dyspec", 8, {{"dyspec.form", form}});
    for (uint64_t seed = 0; seed < 50; ++seed) {
      const Budget budget{8, 6};
      const DraftTree tree = grown(*policy, {kRemoved}, model, budget, seed);
      double least_filled = 1.0, best_open = 0.0;
      for (int32_t node = 0; node < tree.size(); ++node) {
        double path = 1.0;
        for (int32_t at = node; at > 0; at = tree.parent()[at]) {
          const test::Tokens above = test::path_tokens(tree, tree.parent()[at]);
          path *= model.after(above)[static_cast<size_t>(tree.token()[at])];
        }
        const std::vector<double>& row = model.after(test::path_tokens(tree, node));
        std::vector<int32_t> draws;
        tree.draws(node, draws);
        double left = 1.0;
        for (const int32_t child : draws) {
          least_filled = std::min(least_filled, path * left);
          left -= row[static_cast<size_t>(tree.token()[child])];
        }
        if (tree.depth()[node] < budget.max_depth) best_open = std::max(best_open, path * left);
      }
      if (std::string(form) == "heap") {
        EXPECT_EQ(tree.drafted(), 8);
        EXPECT_GE(least_filled, best_open - 1e-12) << seed;
      } else {
        EXPECT_GE(least_filled, 1.0 / 8 - 1e-12);
        if (tree.drafted() < 8) {
          EXPECT_LT(best_open, 1.0 / 8);
        }
      }
    }
  }
}

// Kool et al.: perturb all children, shift them under their parent's value, keep the largest.
std::vector<test::Tokens> kool_beam(const TableModel& model, size_t width, int depth,
                                    std::mt19937& random) {
  struct Path {
    test::Tokens text;
    double log_q, value;
  };
  std::vector<Path> beam = {{{}, 0.0, 0.0}};
  std::vector<test::Tokens> kept;
  std::extreme_value_distribution<double> gumbel(0.0, 1.0);
  for (int level = 0; level < depth; ++level) {
    std::vector<Path> next;
    for (const Path& path : beam) {
      std::vector<Path> children;
      double most = -INFINITY;
      for (int32_t token = 0; token < model.vocab(); ++token) {
        Path child = path;
        child.log_q += std::log(model.after(path.text)[static_cast<size_t>(token)]);
        child.text.push_back(token);
        child.value = child.log_q + gumbel(random);
        most = std::max(most, child.value);
        children.push_back(child);
      }
      for (Path& child : children) {  // v = T - g + log1p(-exp(g - Z))
        const double v = path.value - child.value + std::log1p(-std::exp(child.value - most));
        child.value = path.value - std::max(v, 0.0) - std::log1p(std::exp(-std::abs(v)));
        next.push_back(child);
      }
    }
    std::sort(next.begin(), next.end(),
              [](const Path& a, const Path& b) { return a.value > b.value; });
    next.resize(std::min(next.size(), width));
    for (const Path& path : next) kept.push_back(path.text);
    beam = std::move(next);
  }
  return kept;
}

TEST(StochasticBeamPolicy, DrawsTheTreesOfTheShiftedGumbels) {
  const TableModel model(3, 6);
  const auto policy = make_policy("rsd-s", 8, {{"rsd-s.beam", "2"}});
  constexpr int64_t kTrees = 30000;
  std::map<std::vector<test::Tokens>, std::pair<int64_t, int64_t>> counts;
  std::mt19937 random(1);
  for (int64_t trial = 0; trial < kTrees; ++trial) {
    const DraftTree tree = grown(*policy, {kRemoved}, model, {4, 2}, static_cast<uint64_t>(trial));
    std::vector<test::Tokens> texts;
    for (int32_t node = 1; node < tree.size(); ++node)
      texts.push_back(test::path_tokens(tree, node));
    ++counts[texts].first;
    ++counts[kool_beam(model, 2, 2, random)].second;
  }
  // Two samples of one law: G over the table of two rows.
  double g = 0.0;
  int cells = 0;
  for (const auto& [texts, pair] : counts) {
    const double both = static_cast<double>(pair.first + pair.second);
    if (both < 10) continue;
    ++cells;
    for (const int64_t count : {pair.first, pair.second}) {
      if (count > 0)
        g += 2.0 * static_cast<double>(count) * std::log(2.0 * static_cast<double>(count) / both);
    }
  }
  const double freedom = cells - 1, h = 2.0 / (9.0 * freedom);
  EXPECT_GT(cells, 10);
  EXPECT_LT((std::cbrt(g / freedom) - (1.0 - h)) / std::sqrt(h), 3.72);
}

TEST(AutoPolicy, DrawsWhatEachKindOfVerifierNeeds) {
  const TableModel model(4, 3);
  const auto policy = make_policy("auto", 8);
  EXPECT_EQ(grown(*policy, {Proposal::kIndependent, true}, model, {4, 9}, 1).max_depth(), 4);
  EXPECT_EQ(grown(*policy, {Proposal::kIndependent}, model, {9, 9}, 1).law(0).proposal,
            Proposal::kIndependent);
  EXPECT_EQ(grown(*policy, {kRemoved}, model, {9, 9}, 1).law(0).proposal, kRemoved);
  EXPECT_EQ(grown(*policy, {Proposal::kTopAndSample}, model, {9, 9}, 1).law(0).proposal,
            Proposal::kTopAndSample);
  EXPECT_EQ(policy->slots({}), nullptr);
  EXPECT_TRUE(policy->shares_noise());
  EXPECT_FALSE(make_policy("eagle2", 8)->shares_noise());
  EXPECT_TRUE(make_policy("gumbel", 8)->shares_noise());
}

TEST(StopRules, EndABranchAfterTheGuessThatIsToBlame) {
  const TableModel model(4, 8);
  const auto policy = make_policy("chain", 8);
  const DrawNeed need{Proposal::kIndependent, true};
  for (uint64_t seed = 0; seed < 100; ++seed) {
    policy->stop() = parse_stop("chain.stop", "confidence:0.3");
    const DraftTree confident = grown(*policy, need, model, {6, 64}, seed);
    policy->stop() = {};
    policy->stop() = parse_stop("chain.stop", "head:0.4");
    const DraftTree headed = grown(*policy, need, model, {6, 64}, seed);
    policy->stop() = parse_stop("chain.stop", "entropy:0.6");
    const DraftTree sure = grown(*policy, need, model, {6, 64}, seed);
    double all = 1.0;
    for (int32_t node = 1; node < 6; ++node) {  // the sixth is the last anyway
      if (node < confident.size()) {
        const test::Tokens above = test::path_tokens(confident, node - 1);
        const double q = model.after(above)[static_cast<size_t>(confident.token()[node])];
        EXPECT_EQ(q < 0.3, node + 1 == confident.size()) << seed;
      }
      if (node < headed.size()) {
        all *= headed.token()[node] == 0 ? 0.5 : 0.9;
        EXPECT_EQ(1.0 - all > 0.4, node + 1 == headed.size()) << seed;
      }
    }
    for (int32_t node = 0; node < sure.size(); ++node) {
      double entropy = 0.0;
      for (const double q : model.after(test::path_tokens(sure, node))) entropy -= q * std::log(q);
      if (node == 6) continue;
      EXPECT_EQ(1.0 - std::sqrt(0.2 * entropy) < 0.6, node + 1 == sure.size()) << seed;
    }
  }
}

// Worked out by hand: the averaged share is 0.5, 0.75, 0.875, 0.9375, ...
TEST(StopRules, AThresholdThatAdaptsFollowsWhatIsAccepted) {
  StopThreshold fixed(0.5, false), lost(0.5, true), rising(0.5, true), held(0.5, true);
  for (int step = 1; step <= 100; ++step) {
    fixed.learn(0.0, true);
    lost.learn(0.3, true);
    EXPECT_NEAR(lost.value(), 0.5 + 0.001 * step, 1e-12);
    rising.learn(1.0, true);
    held.learn(1.0, false);  // nothing was ended: a lower threshold would change nothing
    const int up = std::min(step, 3), down = step - up;
    EXPECT_NEAR(rising.value(), 0.5 + 0.001 * (up - down), 1e-12);
    EXPECT_NEAR(held.value(), 0.5 + 0.001 * up, 1e-12);
  }
  EXPECT_EQ(fixed.value(), 0.5);
  StopThreshold most(0.9995, true), least(0.0005, true);
  for (int step = 0; step < 5; ++step) most.learn(0.0, true);
  for (int step = 0; step < 9; ++step) least.learn(1.0, true);
  EXPECT_EQ(most.value(), 1.0);
  EXPECT_EQ(least.value(), 0.0);
}

// A guess of 0.4495, after which a branch ends while the threshold is above that.
TEST(StopRules, TheThresholdHearsTheShareOfTheDepthOfItsOwnSource) {
  const auto stops = [](StopRules& rules) {
    std::vector<Guess> pool(2);
    pool[1].q = 0.4495F;
    return rules.before_open(pool, 1);
  };
  DraftTree tree;
  tree.reset(0);
  for (int32_t node = 0; node < 4; ++node) {
    tree.add(node, node, 0.5F, node < 2 ? DraftSource::kNgram : DraftSource::kModel);
  }
  const std::vector<int32_t> all = {0, 1, 2, 3, 4}, half = {0, 1, 2, 3}, none = {0, 1, 2};
  Observation truth;
  truth.tree = &tree;
  const auto steps_until_it_stops = [&](std::span<const int32_t> path, DraftSource of) {
    StopRules rules = parse_stop("x.stop", "confidence:0.4:adapt");
    truth.path = path;
    int32_t steps = 0;
    for (; steps < 200 && !stops(rules); ++steps) rules.observe(truth, of);
    return steps;
  };
  EXPECT_EQ(steps_until_it_stops(none, DraftSource::kModel), 50);
  EXPECT_EQ(steps_until_it_stops(half, DraftSource::kModel), 50);
  EXPECT_EQ(steps_until_it_stops(all, DraftSource::kModel), 200);
  EXPECT_EQ(steps_until_it_stops(none, DraftSource::kNgram), 200);
  EXPECT_EQ(steps_until_it_stops(none, DraftSource::kSuffix), 200);  // it drafted nothing

  StopRules rules = parse_stop("x.stop", "confidence:0.5:adapt"), copy = rules;
  truth.path = all;
  int32_t steps = 0;
  for (; steps < 200 && stops(rules); ++steps) rules.observe(truth, DraftSource::kModel);
  EXPECT_EQ(steps, 3 + 54);  // up while the averaged share is below 0.9, then down
  EXPECT_TRUE(stops(copy));  // another sequence's
}

TEST(StopRules, AreReadFromTextAndWrongTextIsRefused) {
  EXPECT_TRUE(parse_stop("x.stop", "confidence:0.5+entropy").reads_law());
  EXPECT_FALSE(parse_stop("x.stop", "confidence").reads_law());
  EXPECT_FALSE(parse_stop("x.stop", "").before_open(std::vector<Guess>(2), 1));
  for (const char* text : {"patience", "confidence:", "confidence:2", "confidence:x", "entropy+",
                           "+entropy", "confidence:0.5x", "head:1.5", "head:adapt", "adapt",
                           "entropy:adapt:0.3", "entropy:0.3:adapt:adapt"}) {
    EXPECT_THROW(parse_stop("x.stop", text), Error) << text;
  }
  EXPECT_TRUE(parse_stop("x.stop", "confidence+head:0.5").reads_survival());
  EXPECT_FALSE(parse_stop("x.stop", "confidence+entropy").reads_survival());
}

TEST(SlotPolicies, NoSlotIsDrawnThatCannotPay) {
  const TableModel model(5, 9);
  for (const char* name : {"dyspec", "rsd-c", "rsd-s", "static", "greedy-draft"}) {
    const auto policy = make_policy(name, 8);
    const DrawNeed need{std::string(name) == "greedy-draft" ? Proposal::kTopAndSample : kRemoved};
    Budget budget{20, 8};
    const int32_t all = grown(*policy, need, model, budget, 1).drafted();
    budget.min_value = 0.3F;
    const DraftTree tree = grown(*policy, need, model, budget, 1);
    EXPECT_LT(tree.drafted(), all) << name;
    budget.min_value = 1.1F;
    EXPECT_EQ(grown(*policy, need, model, budget, 1).drafted(), 0) << name;
    EXPECT_EQ(grown(*policy, need, model, {0, 8}, 1).drafted(), 0) << name;
    EXPECT_EQ(grown(*policy, need, model, {5, 0}, 1).drafted(), 0) << name;
  }
}

}  // namespace
}  // namespace forerun
