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
  Constant(int32_t token, float score, double ms, int* asked)
      : token_(token), score_(score), ms_(ms), asked_(asked) {}
  std::string name() const override { return "constant"; }
  void begin(std::span<const int32_t>) override {}
  void propose(std::span<const int32_t>, const Budget& budget, const DraftNoise&,
               DraftTree& tree) override {
    ++*asked_;
    for (int32_t i = 0, node = 0; i < budget.max_nodes; ++i)
      node = tree.add(node, token_, score_, DraftSource::kOther);
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

TEST(CombinedDrafter, DoesNotAskACostlyDrafterWhenEnoughIsPromised) {
  int free_asked = 0, costly_asked = 0;
  for (const float score : {0.5F, 0.95F}) {
    const auto drafter = joined(std::make_unique<Constant>(1, score, 0.0, &free_asked),
                                std::make_unique<Constant>(2, 0.8F, 1.0, &costly_asked));
    DraftTree tree;
    tree.reset(0);
    drafter->propose(std::vector<int32_t>{0}, {10}, {}, tree);
    EXPECT_EQ(drafter->expected_ms(3), 3.0);
  }
  EXPECT_EQ(free_asked, 2);
  EXPECT_EQ(costly_asked, 1);
}

TEST(CombinedDrafter, NeedsAtLeastOneDrafter) { EXPECT_THROW(CombinedDrafter({}), Error); }

}  // namespace
}  // namespace forerun
