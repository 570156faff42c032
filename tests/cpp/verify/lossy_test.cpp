// Verifiers that may change the text: what they promise, and that they are exact where they say so.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "base/error.h"
#include "draft/tree_policy.h"
#include "verify/enumeration.h"
#include "verify/judge.h"
#include "verify/verifier.h"

namespace forerun {
namespace {

using test::TableModel;

test::Emission lenient(const MethodOptions& options, const TableModel& target,
                       const TableModel& drafter, int32_t nodes) {
  const auto verifier = make_verifier("lenient", options);
  const auto policy = make_policy("chain", 8);
  return test::emission(target,
                        test::drawn(*policy->slots({Proposal::kIndependent, true}), drafter,
                                    Proposal::kIndependent, {nodes}),
                        test::rule(dynamic_cast<RatioVerifier&>(*verifier)));
}

TEST(LenientVerifier, IsRejectionAtEpsilonOne) {
  for (const char* form : {"linear", "square", "power"}) {
    const TableModel target(3, 1), drafter(3, 2);
    const auto out =
        lenient({{"lenient.epsilon", "1"}, {"lenient.form", form}}, target, drafter, 3);
    EXPECT_LT(out.error(target, 4), 1e-10) << form;
  }
}

TEST(LenientVerifier, LinearEmitsATokenAtMostOneOverEpsilonTooOften) {
  for (uint32_t seed = 0; seed < 10; ++seed) {
    const TableModel target(4, seed), drafter(4, 60 + seed);
    double before = -1.0;
    for (const double epsilon : {1.0, 0.7, 0.4}) {
      const auto out = lenient({{"lenient.epsilon", std::to_string(epsilon)}}, target, drafter, 1);
      std::vector<double> first(4);
      for (const auto& [text, weight] : out.texts) first[static_cast<size_t>(text[0])] += weight;
      double wanted = 0.0;
      for (size_t x = 0; x < 4; ++x) {
        const double p = target.after({})[x], q = drafter.after({})[x];
        EXPECT_LE(first[x], p / epsilon + 1e-12);
        wanted += std::min(q, p / epsilon);
      }
      EXPECT_NEAR(out.accepted, wanted, 1e-9);
      EXPECT_GE(out.accepted, before);
      before = out.accepted;
    }
  }
  EXPECT_THROW(make_verifier("lenient", {{"lenient.form", "cubic"}}), Error);
  EXPECT_THROW(make_verifier("lenient", {{"lenient.epsilon", "0"}}), Error);
}

constexpr int32_t kVocab = 4;

// p = (0.6, 0.25, 0.1, 0.05) everywhere: entropy 1.06, delta exp(-H) = 0.104.
struct FlatRows {
  DraftTree tree;
  std::vector<float> rows;
  void reset() {
    tree.reset(0);
    rows.clear();
  }
  NodeLogits logits() {
    rows.clear();
    for (int32_t node = 0; node < tree.size(); ++node) {
      for (const double p : {0.6, 0.25, 0.1, 0.05}) rows.push_back(static_cast<float>(std::log(p)));
    }
    return {rows.data(), kVocab, kVocab};
  }
  int32_t add(int32_t parent, int32_t token) {
    return tree.add(parent, token, 0.5F, DraftSource::kNgram);
  }
};

TEST(TypicalVerifier, KeepsTheLongestPathOfTypicalTokensThenTheTargetsOwn) {
  FlatRows flat;
  flat.reset();
  const int32_t likely = flat.add(0, 0);
  const int32_t less = flat.add(0, 1), below = flat.add(less, 1), last = flat.add(below, 0);
  flat.add(last, 3);  // 0.05 is not typical
  const auto verifier = make_verifier("typical");
  EXPECT_FALSE(verifier->lossless());
  Verdict verdict;
  int64_t rare = 0, bonus_rare = 0;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    Sampler sampler({.temperature = 1.0F}, seed, kVocab);
    verifier->verify(flat.tree, flat.logits(), 1, sampler, verdict);
    ASSERT_GE(verdict.path.size(), 4U);
    EXPECT_EQ(verdict.path[1], less);
    EXPECT_EQ(verdict.path[3], last);
    rare += verdict.path.size() == 5 ? 1 : 0;  // where the target itself draws it
    bonus_rare += verdict.bonus == 3 ? 1 : 0;
  }
  EXPECT_NEAR(static_cast<double>(rare) / 2000, 0.05, 0.02);
  EXPECT_LT(bonus_rare, 30);  // only below the rare node
  (void)likely;

  const auto strict =
      make_verifier("typical", {{"typical.epsilon", "0.5"}, {"typical.delta", "1"}});
  Sampler sampler({.temperature = 1.0F}, 1, kVocab);
  strict->verify(flat.tree, flat.logits(), 1, sampler, verdict);  // threshold 0.35
  EXPECT_EQ(verdict.path[1], likely);
}

TEST(TypicalVerifier, TiesInLengthGoToTheLikelierPathAndTemperatureZeroIsMatch) {
  FlatRows flat;
  flat.reset();
  const int32_t less = flat.add(0, 1), likely = flat.add(0, 0);
  const auto verifier = make_verifier("typical");
  Verdict verdict;
  Sampler warm({.temperature = 1.0F}, 4, kVocab);
  verifier->verify(flat.tree, flat.logits(), 1, warm, verdict);
  EXPECT_EQ(verdict.path[1], likely);
  flat.reset();
  flat.add(0, 1);
  Sampler greedy({}, 4, kVocab);
  verifier->verify(flat.tree, flat.logits(), 1, greedy, verdict);
  EXPECT_EQ(verdict.path.size(), 1U);
  EXPECT_EQ(verdict.bonus, 0);
  (void)less;
}

// Likes hidden rows by their first value.
class FirstValue final : public JudgeHead {
 public:
  double correct(std::span<const float> hidden) const override { return hidden[0]; }
};

TEST(JudgeVerifier, KeepsWhatTheHeadLikesButNoLeafAndNotTooManyInARow) {
  FlatRows flat;
  flat.reset();
  int32_t node = 0;
  for (int i = 0; i < 5; ++i) node = flat.add(node, 3);  // never the argmax
  std::vector<float> hidden = {0, 0, 0.9F, 0, 0.9F, 0, 0.9F, 0, 0.9F, 0, 0.9F, 0};
  NodeLogits logits = flat.logits();
  logits.hidden = hidden.data();
  logits.hidden_stride = logits.width = 2;
  Verdict verdict;
  Sampler sampler({}, 0, kVocab);
  JudgeVerifier all(std::make_unique<FirstValue>(), {});
  EXPECT_FALSE(all.lossless());
  EXPECT_TRUE(all.needs_hidden());
  all.verify(flat.tree, logits, 1, sampler, verdict);
  EXPECT_EQ(verdict.path, (std::vector<int32_t>{0, 1, 2, 3, 4}));  // the leaf needs the target
  EXPECT_EQ(verdict.bonus, 0);
  JudgeVerifier two(std::make_unique<FirstValue>(), {"judge", {{"judge.most_in_a_row", "2"}}});
  two.verify(flat.tree, logits, 1, sampler, verdict);
  EXPECT_EQ(verdict.path, (std::vector<int32_t>{0, 1, 2}));
  JudgeVerifier strict(std::make_unique<FirstValue>(), {"judge", {{"judge.threshold", "1"}}});
  strict.verify(flat.tree, logits, 1, sampler, verdict);
  EXPECT_EQ(verdict.path, (std::vector<int32_t>{0}));
  logits.hidden = nullptr;
  EXPECT_THROW(all.verify(flat.tree, logits, 1, sampler, verdict), Error);
  EXPECT_THROW(make_verifier("judge"), Error);
}

TEST(RatioVerifiers, RefuseATreeTheyAreNotLegalFor) {
  FlatRows flat;
  flat.reset();
  flat.add(0, 1);
  Verdict verdict;
  for (const char* name :
       {"rejection", "specinfer", "kseq", "swor", "block", "traversal", "lenient"}) {
    const auto verifier = make_verifier(name);
    Sampler warm({.temperature = 1.0F}, 1, kVocab);
    EXPECT_THROW(verifier->verify(flat.tree, flat.logits(), 1, warm, verdict), Error) << name;
    Sampler greedy({}, 1, kVocab);
    EXPECT_NO_THROW(verifier->verify(flat.tree, flat.logits(), 1, greedy, verdict)) << name;
  }
  DraftTree wide;
  wide.reset(0);
  const std::vector<int32_t> tokens = {0, 1};
  const std::vector<double> q = {0.5, 0.5};
  wide.set_law(0, Proposal::kIndependent, tokens, q);
  wide.draw(0, 0, 0.5F, DraftSource::kModel);
  wide.draw(0, 1, 0.5F, DraftSource::kModel);
  flat.tree = wide;
  for (const char* name : {"rejection", "block", "lenient", "traversal", "greedy-draft"}) {
    Sampler warm({.temperature = 1.0F}, 1, kVocab);
    EXPECT_THROW(make_verifier(name)->verify(flat.tree, flat.logits(), 1, warm, verdict), Error)
        << name;
  }
}

}  // namespace
}  // namespace forerun
