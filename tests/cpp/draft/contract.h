#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <vector>

#include "draft/drafter.h"

namespace forerun::test {

// What every drafter owes, checked on random texts that repeat themselves. Drafters that share no
// state must also propose the same as a fresh one on the same context, whatever they went through.
class DrafterContract {
 public:
  std::function<std::unique_ptr<Drafter>()> make;
  int32_t vocab = 12;
  bool shares_state = false;
  DraftNoise noise;
  int32_t rounds = 60;
  int32_t hidden_width = 0;  // of a drafter that reads the target's hidden states

  void check(uint32_t seed) {
    random_.seed(seed);
    const std::unique_ptr<Drafter> drafter = make();
    std::vector<int32_t> context = text(30);
    begin(*drafter, context);
    int32_t proposed = 0;
    for (int32_t round = 0; round < rounds; ++round) {
      const Budget budget{static_cast<int32_t>(random_() % 20),
                          1 + static_cast<int32_t>(random_() % 12), 0.0F, 0.0};
      const DraftTree tree = propose(*drafter, context, budget);
      check_tree(tree, context, budget);
      if (!shares_state) expect_equal(tree, fresh(context, budget));
      proposed += tree.drafted();
      if (round % 9 == 8) {
        context.resize(1 + random_() % context.size());
        drafter->rewind(context);
        continue;
      }
      if (round % 7 == 6) check_fork(*drafter, context, budget);
      step(*drafter, context, tree);
    }
    EXPECT_GT(proposed, rounds);
  }

  DraftTree propose(Drafter& drafter, const std::vector<int32_t>& context,
                    const Budget& budget) const {
    DraftTree tree;
    tree.reset(context.back());
    drafter.propose(context, budget, noise, tree);
    return tree;
  }

  // A target's hidden state after the last of these tokens: any function of all of them.
  std::vector<float> hidden_state(std::span<const int32_t> tokens) const {
    uint32_t hash = 1;
    for (const int32_t token : tokens) hash = hash * 31 + static_cast<uint32_t>(token);
    std::minstd_rand random(hash);
    std::vector<float> state(static_cast<size_t>(hidden_width));
    for (float& value : state) value = static_cast<float>(random() % 2001) / 1000.0F - 1.0F;
    return state;
  }

  // A new context, read in pieces from its token `first` on.
  void begin(Drafter& drafter, const std::vector<int32_t>& context, int32_t first = 0) const {
    drafter.begin(context);
    const auto last = static_cast<int32_t>(context.size()) - 1;
    for (int32_t at = first; hidden_width > 0 && at < last;) {
      const int32_t rows = std::min(last - at, 7);
      std::vector<float> states;
      for (int32_t i = 1; i <= rows; ++i) {
        const auto state = hidden_state(std::span(context).first(static_cast<size_t>(at + i)));
        states.insert(states.end(), state.begin(), state.end());
      }
      drafter.read(context, at, {states.data(), hidden_width, rows, hidden_width});
      at += rows;
    }
  }

  static void expect_equal(const DraftTree& a, const DraftTree& b) {
    ASSERT_EQ(a.size(), b.size());
    for (int32_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a.token()[i], b.token()[i]);
      EXPECT_EQ(a.parent()[i], b.parent()[i]);
      EXPECT_EQ(a.score()[i], b.score()[i]);
    }
  }

 private:
  std::vector<int32_t> text(int32_t length) {
    std::vector<int32_t> tokens;
    while (static_cast<int32_t>(tokens.size()) < length) {
      if (tokens.size() > 6 && random_() % 3 == 0) {
        const size_t from = random_() % (tokens.size() - 5);
        for (size_t i = 0; i < 5; ++i) tokens.push_back(tokens[from + i]);
      } else {
        tokens.push_back(static_cast<int32_t>(random_() % static_cast<uint32_t>(vocab)));
      }
    }
    return tokens;
  }

  DraftTree fresh(const std::vector<int32_t>& context, const Budget& budget) const {
    const std::unique_ptr<Drafter> drafter = make();
    begin(*drafter, context);
    return propose(*drafter, context, budget);
  }

  void check_tree(const DraftTree& tree, const std::vector<int32_t>& context,
                  const Budget& budget) const {
    EXPECT_LE(tree.drafted(), budget.max_nodes);
    EXPECT_LE(tree.max_depth(), budget.max_depth);
    EXPECT_EQ(tree.token()[0], context.back());
    std::set<std::pair<int32_t, int32_t>> edges;
    for (int32_t i = 1; i < tree.size(); ++i) {
      EXPECT_LT(tree.parent()[i], i);
      EXPECT_TRUE(edges.insert({tree.parent()[i], tree.token()[i]}).second);
      EXPECT_GE(tree.token()[i], 0);
      EXPECT_LT(tree.token()[i], vocab);
      EXPECT_GE(tree.score()[i], 0.0F);
      EXPECT_LE(tree.score()[i], 1.0F);
    }
  }

  // The target follows a random branch for a while, then says something of its own.
  void step(Drafter& drafter, std::vector<int32_t>& context, const DraftTree& tree) {
    std::vector<int32_t> path = {0};
    for (int32_t i = 1; i < tree.size(); ++i) {
      if (tree.parent()[i] == path.back() && random_() % 4 != 0) path.push_back(i);
    }
    int32_t bonus = static_cast<int32_t>(random_() % static_cast<uint32_t>(vocab));
    while (tree.child_with(path.back(), bonus) >= 0) bonus = (bonus + 1) % vocab;
    const size_t before = context.size();
    for (size_t i = 1; i < path.size(); ++i) context.push_back(tree.token()[path[i]]);
    context.push_back(bonus);
    std::vector<int32_t> topk;
    const int32_t k = drafter.wanted_topk();
    for (int32_t i = 0; i < tree.size() * k; ++i)
      topk.push_back((tree.token()[i / k] * 5 + i % k) % vocab);
    std::vector<float> states;
    const HiddenRows hidden = states_of(tree, std::span(context).first(before), states);
    drafter.observe(context, {&tree, path, bonus, topk, k, hidden});
  }

  // The hidden states of all nodes; `context` ends with the root.
  HiddenRows states_of(const DraftTree& tree, std::span<const int32_t> context,
                       std::vector<float>& states) const {
    if (hidden_width == 0) return {};
    for (int32_t node = 0; node < tree.size(); ++node) {
      std::vector<int32_t> tokens;
      for (int32_t at = node; at > 0; at = tree.parent()[at]) tokens.push_back(tree.token()[at]);
      tokens.insert(tokens.end(), context.rbegin(), context.rend());
      std::reverse(tokens.begin(), tokens.end());
      const auto state = hidden_state(tokens);
      states.insert(states.end(), state.begin(), state.end());
    }
    return {states.data(), hidden_width, tree.size(), hidden_width};
  }

  void check_fork(Drafter& drafter, const std::vector<int32_t>& context, const Budget& budget) {
    const std::unique_ptr<Drafter> copy = drafter.fork();
    std::vector<int32_t> other = context;
    step(*copy, other, propose(*copy, other, budget));
    if (!shares_state) {
      expect_equal(propose(*copy, other, budget), fresh(other, budget));
      expect_equal(propose(drafter, context, budget), fresh(context, budget));
    }
    check_tree(propose(*copy, other, budget), other, budget);
  }

  std::mt19937 random_;
};

}  // namespace forerun::test
