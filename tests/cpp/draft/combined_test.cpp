#include "draft/combined.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "draft/contract.h"
#include "draft/lookup.h"
#include "draft/recycle.h"

namespace forerun {
namespace {

// Proposes a chain of one token and counts how often it is asked.
class Constant final : public Drafter {
 public:
  Constant(int32_t token, float score, double ms, int* asked,
           DraftSource source = DraftSource::kOther)
      : token_(token), score_(score), ms_(ms), asked_(asked), source_(source) {}
  std::string name() const override { return "constant"; }
  void begin(std::span<const int32_t>) override {}
  void propose(std::span<const int32_t>, const Budget& budget, const DraftNoise&,
               DraftTree& tree) override {
    ++*asked_;
    for (int32_t i = 0, node = 0; i < budget.max_nodes; ++i)
      node = tree.add(node, token_, score_, source_);
  }
  void observe(std::span<const int32_t>, const Observation&) override {}
  void rewind(std::span<const int32_t>) override {}
  std::unique_ptr<Drafter> fork() const override { return std::make_unique<Constant>(*this); }
  double expected_ms(int32_t nodes) const override { return ms_ * nodes; }

 private:
  int32_t token_;
  float score_;
  double ms_;
  int* asked_;
  DraftSource source_;
};

std::unique_ptr<CombinedDrafter> joined(std::unique_ptr<Drafter> a, std::unique_ptr<Drafter> b) {
  std::vector<std::unique_ptr<Drafter>> drafters;
  drafters.push_back(std::move(a));
  drafters.push_back(std::move(b));
  return std::make_unique<CombinedDrafter>(std::move(drafters));
}

TEST(CombinedDrafter, KeepsTheContractOfDrafters) {
  test::DrafterContract contract;
  const auto table = std::make_shared<RecycleTable>(contract.vocab);
  contract.make = [&] {
    return joined(std::make_unique<LookupDrafter>(), std::make_unique<RecycleDrafter>(table));
  };
  contract.shares_state = true;
  for (uint32_t seed = 0; seed < 10; ++seed) contract.check(seed);
  EXPECT_EQ(contract.make()->name(), "ngram+recycle");
  EXPECT_EQ(contract.make()->wanted_topk(), 8);
}

TEST(CombinedDrafter, SharesTheBudgetByScore) {
  int asked = 0;
  const auto drafter = joined(std::make_unique<Constant>(1, 0.5F, 0.0, &asked),
                              std::make_unique<Constant>(2, 0.8F, 0.0, &asked));
  DraftTree tree;
  tree.reset(0);
  drafter->propose(std::vector<int32_t>{0}, {4}, {}, tree);
  // Values: 0.5, 0.25, .. and 0.8, 0.64, 0.512, 0.41, ..
  EXPECT_EQ(tree.drafted(), 4);
  EXPECT_GT(tree.child_with(0, 1), 0);
  EXPECT_EQ(tree.max_depth(), 3);
}

// The target writes the token 1 for ever; the table is sure of it or not, the model costs 1 ms a
// node.
struct Cascade {
  int free_asked = 0, costly_asked = 0;
  std::unique_ptr<CombinedDrafter> drafter;
  Cascade(float table_score, int32_t model_token)
      : drafter(joined(std::make_unique<Constant>(1, table_score, 0.0, &free_asked),
                       std::make_unique<Constant>(model_token, 0.9F, 1.0, &costly_asked))) {}
  void run(int steps, int32_t truth, double tokens_per_ms) {
    std::vector<int32_t> context = {truth};
    for (int step = 0; step < steps; ++step) {
      DraftTree tree;
      tree.reset(truth);
      drafter->propose(context, {4, 64, 0.0F, tokens_per_ms}, {}, tree);
      std::vector<int32_t> path = {0};
      for (int32_t next = tree.child_with(0, truth); next >= 0;
           next = tree.child_with(path.back(), truth)) {
        path.push_back(next);
      }
      context.insert(context.end(), path.size(), truth);
      drafter->observe(context, {&tree, path, truth, {}, 0});
    }
  }
};

TEST(CombinedDrafter, AsksACostlyDrafterOnlyWhereItsGainIsWorthItsTime) {
  Cascade useless(0.95F, 2);  // the table is right, the model adds nothing
  useless.run(160, 1, 0.1);
  EXPECT_EQ(useless.free_asked, 160);
  EXPECT_LT(useless.costly_asked, 30);
  EXPECT_GE(useless.costly_asked, 160 / CombinedDrafter::kAskAgain);
  EXPECT_LT(useless.drafter->expected_ms(4), 1.0);  // it is rarely asked

  Cascade useful(0.1F, 2);  // the table is wrong, the model is right: 4 tokens for 4 ms
  useful.run(160, 2, 0.5);
  EXPECT_EQ(useful.costly_asked, 160);
  EXPECT_NEAR(useful.drafter->expected_ms(4), 4.0, 1e-6);
  Cascade dear(0.1F, 2);  // the same, where a millisecond must bring two tokens
  dear.run(160, 2, 2.0);
  EXPECT_LT(dear.costly_asked, 30);
  Cascade careless(0.95F, 2);
  careless.run(20, 1, 0.0);
  EXPECT_EQ(careless.costly_asked, 20);
}

TEST(CombinedDrafter, BranchesThatAModelDoesNotHoldCountWithWhatItLeavesOver) {
  int asked = 0;
  const auto drafter =
      joined(std::make_unique<Constant>(1, 0.8F, 0.0, &asked),
             std::make_unique<Constant>(2, 0.7F, 1.0, &asked, DraftSource::kModel));
  DraftTree tree;
  tree.reset(0);
  drafter->propose(std::vector<int32_t>{0}, {6}, {}, tree);
  EXPECT_FLOAT_EQ(tree.score()[tree.child_with(0, 1)], 0.3F);
  EXPECT_FLOAT_EQ(tree.score()[tree.child_with(0, 2)], 0.7F);
  EXPECT_EQ(tree.drafted(), 6);
  const auto agree = joined(std::make_unique<Constant>(2, 0.8F, 0.0, &asked),
                            std::make_unique<Constant>(2, 0.7F, 1.0, &asked, DraftSource::kModel));
  tree.reset(0);
  agree->propose(std::vector<int32_t>{0}, {6}, {}, tree);
  EXPECT_EQ(tree.max_depth(), 6);
  EXPECT_FLOAT_EQ(tree.score()[1], 0.8F);
}

TEST(CombinedDrafter, NeedsAtLeastOneDrafter) {
  EXPECT_THROW(CombinedDrafter(std::vector<std::unique_ptr<Drafter>>()), Error);
}

}  // namespace
}  // namespace forerun
