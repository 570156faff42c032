#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"
#include "tree/draft_tree.h"
#include "tree/prune.h"

namespace forerun {
namespace {

const std::vector<int32_t> kTokens = {4, 7, 9};
const std::vector<double> kQ = {0.5, 0.3, 0.2};

DraftTree with_law(Proposal proposal) {
  DraftTree tree;
  tree.reset(1);
  tree.set_law(0, proposal, kTokens, kQ);
  return tree;
}

int32_t draw(DraftTree& tree, int32_t parent, int32_t token) {
  return tree.draw(parent, token, 0.5F, DraftSource::kModel);
}

std::vector<int32_t> draws_of(const DraftTree& tree, int32_t node) {
  std::vector<int32_t> draws;
  tree.draws(node, draws);
  return draws;
}

TEST(DrawnChildren, KeepTheirLawAndTheOrderOfTheDraws) {
  DraftTree tree = with_law(Proposal::kWithoutReplacement);
  const int32_t a = draw(tree, 0, 9);
  tree.set_law(a, Proposal::kWithoutReplacement, std::vector<int32_t>{2}, std::vector<double>{1.0});
  const int32_t below = draw(tree, a, 2);
  const int32_t b = draw(tree, 0, 4);
  EXPECT_EQ(draws_of(tree, 0), (std::vector<int32_t>{a, b}));
  EXPECT_EQ(draws_of(tree, a), (std::vector<int32_t>{below}));
  EXPECT_EQ(draws_of(tree, b), (std::vector<int32_t>{}));
  EXPECT_EQ(tree.law(0).proposal, Proposal::kWithoutReplacement);
  EXPECT_EQ(std::vector<double>(tree.law(0).q.begin(), tree.law(0).q.end()), kQ);
  EXPECT_EQ(tree.law(a).tokens[0], 2);
  EXPECT_TRUE(tree.law(b).q.empty());
  EXPECT_TRUE(tree.sampled());
  tree.reset(3);
  EXPECT_FALSE(tree.sampled());
  EXPECT_TRUE(tree.law(0).q.empty());
}

TEST(DrawnChildren, AnIndependentDrawThatRepeatsATokenIsTheSameNode) {
  DraftTree tree = with_law(Proposal::kIndependent);
  const int32_t a = draw(tree, 0, 7), b = draw(tree, 0, 4);
  EXPECT_EQ(draw(tree, 0, 7), a);
  EXPECT_EQ(tree.drafted(), 2);
  EXPECT_EQ(draws_of(tree, 0), (std::vector<int32_t>{a, b, a}));
}

TEST(DrawnChildren, WhatTheLawDoesNotAllowIsRefused) {
  DraftTree tree = with_law(Proposal::kWithoutReplacement);
  draw(tree, 0, 4);
  EXPECT_THROW(draw(tree, 0, 4), Error);   // gone
  EXPECT_THROW(draw(tree, 0, 5), Error);   // not in the law
  EXPECT_THROW(draw(tree, 1, 4), Error);   // no law there
  EXPECT_THROW(draw(tree, 17, 4), Error);  // no such node
  EXPECT_THROW(tree.add(0, 5, 0.5F, DraftSource::kNgram), Error);
  EXPECT_THROW(tree.set_law(0, Proposal::kWithoutReplacement, kTokens, kQ), Error);
  EXPECT_THROW(tree.set_law(1, Proposal::kDeterministic, kTokens, kQ), Error);
  EXPECT_THROW(tree.set_law(1, Proposal::kIndependent, kTokens, std::vector<double>{1.0}), Error);

  DraftTree chosen;
  chosen.reset(1);
  chosen.add(0, 2, 0.5F, DraftSource::kModel);
  EXPECT_THROW(chosen.set_law(0, Proposal::kIndependent, kTokens, kQ), Error);
  chosen.set_law(0, Proposal::kTopAndSample, kTokens, kQ);  // one draw after the chosen
  draw(chosen, 0, 4);
  EXPECT_THROW(draw(chosen, 0, 7), Error);
  DraftTree twice;
  twice.reset(1);
  twice.add(0, 7, 0.5F, DraftSource::kModel);
  EXPECT_THROW(twice.set_law(0, Proposal::kTopAndSample, kTokens, kQ), Error);  // 7 is a child
  const std::vector<double> zero = {1.0, 0.0, 0.0};
  twice.reset(1);
  twice.set_law(0, Proposal::kIndependent, kTokens, zero);
  EXPECT_THROW(draw(twice, 0, 7), Error);
}

TEST(DrawnChildren, ATreeOfDrawsIsNeitherPrunedNorFused) {
  DraftTree tree = with_law(Proposal::kWithoutReplacement);
  draw(tree, 0, 4);
  draw(tree, 0, 7);
  EXPECT_NO_THROW(tree.keep_only(std::vector<uint8_t>{1, 1, 1}));
  EXPECT_THROW(tree.keep_only(std::vector<uint8_t>{1, 1, 0}), Error);
  EXPECT_EQ(tree.drafted(), 2);
  TreePruner pruner;
  EXPECT_NO_THROW(pruner.keep_best(tree, 2));
  EXPECT_THROW(pruner.keep_best(tree, 1), Error);
  DraftTree plain;
  plain.reset(1);
  plain.add(0, 4, 0.9F, DraftSource::kNgram);
  EXPECT_THROW(pruner.fuse(tree, plain), Error);
  EXPECT_THROW(pruner.fuse(plain, tree), Error);
}

}  // namespace
}  // namespace forerun
