// Every ratio verifier with every policy it is legal for, over every random outcome: the joint law
// of the emitted tokens is the target's.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "draft/tree_policy.h"
#include "verify/enumeration.h"
#include "verify/verifier.h"

namespace forerun {
namespace {

using test::drawn;
using test::emission;
using test::Emission;
using test::rule;
using test::TableModel;

std::unique_ptr<RatioVerifier> ratio(const std::string& name, const MethodOptions& options = {}) {
  std::unique_ptr<Verifier> verifier = make_verifier(name, options);
  return std::unique_ptr<RatioVerifier>(dynamic_cast<RatioVerifier*>(verifier.release()));
}

struct Pair {
  std::string verifier, policy;
  MethodOptions options;
  Budget budget;
  int32_t vocab = 3;
};

const std::vector<Pair>& legal_pairs() {
  static const std::vector<Pair> pairs = {
      {"rejection", "chain", {}, {3}},
      {"rejection", "auto", {}, {2}, 5},
      {"block", "chain", {}, {3}},
      {"block", "auto", {}, {2}, 5},
      {"specinfer", "chain", {{"chain.chains", "3"}}, {5, 2}},
      {"specinfer", "static", {}, {4, 2}},
      {"specinfer", "auto", {}, {3, 2}, 4},
      {"kseq", "chain", {{"chain.chains", "2"}}, {4, 2}},
      {"kseq", "chain", {{"chain.chains", "3"}}, {6, 2}},
      {"kseq", "chain", {{"chain.chains", "3"}}, {5, 2}},  // the budget cuts a level
      {"kseq", "static", {}, {4, 2}},
      {"swor", "rsd-c", {{"rsd-c.branching", "2"}}, {6, 2}},
      {"swor", "rsd-c", {{"rsd-c.branching", "3-1"}}, {6, 2}},
      {"swor", "rsd-c", {{"rsd-c.branching", "3"}}, {3, 1}, 5},
      {"swor", "rsd-c", {{"rsd-c.branching", "2-1-1"}}, {5, 3}},  // the budget cuts a level
      {"swor", "rsd-s", {{"rsd-s.beam", "2"}}, {4, 2}},
      {"swor", "dyspec", {}, {4, 3}},
      {"swor", "dyspec", {{"dyspec.form", "heap"}}, {4, 3}},
      {"swor", "dyspec", {{"dyspec.threshold", "0.2"}}, {5, 2}, 4},
      {"swor", "static", {}, {4, 3}},
      {"swor", "chain", {}, {3}},
      {"swor", "auto", {}, {4, 2}, 4},
      {"traversal", "rsd-c", {{"rsd-c.branching", "2"}}, {6, 2}},
      {"traversal", "rsd-c", {{"rsd-c.branching", "3-1"}}, {6, 2}},
      {"traversal", "rsd-c", {{"rsd-c.branching", "1-2"}}, {3, 2}, 4},
      {"traversal", "rsd-c", {{"rsd-c.branching", "2-1-1"}}, {6, 3}},
      {"traversal", "rsd-s", {{"rsd-s.beam", "2"}}, {4, 2}},
      {"traversal", "dyspec", {}, {4, 3}},
      {"traversal", "dyspec", {{"dyspec.form", "heap"}}, {4, 3}},
      {"traversal", "static", {}, {4, 3}},
      {"traversal", "chain", {}, {3}},
      {"greedy-draft", "greedy-draft", {{"greedy-draft.children", "2"}}, {6, 2}},
      {"greedy-draft", "greedy-draft", {{"greedy-draft.children", "3"}}, {5, 2}, 4},
      {"greedy-draft", "greedy-draft", {{"greedy-draft.children", "1"}}, {2, 2}},
      {"greedy-draft", "auto", {}, {3, 2}, 5},
  };
  return pairs;
}

DrawNeed need_of(const Verifier& verifier, const TreePolicy& policy) {
  for (const Proposal proposal : verifier.proposals()) {
    const DrawNeed need{proposal, verifier.chains_only()};
    if (policy.slots(need) != nullptr) return need;
  }
  ADD_FAILURE() << verifier.name() << " with " << policy.name();
  return {};
}

Emission run(const Pair& pair, const TableModel& target, const TableModel& drafter,
             int32_t kept = INT32_MAX) {
  const auto verifier = ratio(pair.verifier);
  const auto policy = make_policy(pair.policy, 8, pair.options);
  const DrawNeed need = need_of(*verifier, *policy);
  return emission(
      target,
      drawn(*policy->slots(need), drafter, need.proposal, pair.budget, kept, &policy->stop()),
      rule(*verifier));
}

TEST(RatioVerifiers, EmitTheTargetsTextWithEveryPolicyTheyAreLegalFor) {
  for (const Pair& pair : legal_pairs()) {
    double accepted = 0.0;
    for (uint32_t seed = 0; seed < 4; ++seed) {
      const TableModel target(pair.vocab, seed), drafter(pair.vocab, 100 + seed);
      const Emission out = run(pair, target, drafter);
      EXPECT_LT(out.error(target, 4), 1e-10) << pair.verifier << " " << pair.policy << " " << seed;
      accepted += out.accepted;
    }
    EXPECT_GT(accepted, 1.0) << pair.verifier << " " << pair.policy;
  }
}

TEST(RatioVerifiers, EmitTheTargetsTextWhereTheDraftIsCutToItsBestTokens) {
  for (const Pair& pair : legal_pairs()) {
    const TableModel target(pair.vocab, 7), drafter(pair.vocab, 8);
    EXPECT_LT(run(pair, target, drafter, 2).error(target, 4), 1e-10)
        << pair.verifier << " " << pair.policy;
    EXPECT_LT(run(pair, target, drafter, 1).error(target, 4), 1e-10)
        << pair.verifier << " " << pair.policy;
  }
}

TEST(RatioVerifiers, EmitTheTargetsTextUnderPredictableStops) {
  for (Pair pair : legal_pairs()) {
    for (const char* stop :
         {"confidence:0.5", "entropy:0.62", "confidence:0.3+entropy:0.6:adapt"}) {
      pair.options[pair.policy + ".stop"] = stop;
      const TableModel target(pair.vocab, 3), drafter(pair.vocab, 5);
      EXPECT_LT(run(pair, target, drafter).error(target, 4), 1e-10)
          << pair.verifier << " " << pair.policy << " " << stop;
    }
  }
}

TEST(RatioVerifiers, AcceptEveryDraftOfTheTargetItselfAndNoneOfDisjointSupport) {
  for (const Pair& pair : legal_pairs()) {
    const TableModel target(pair.vocab, 11);
    const Emission same = run(pair, target, target);
    EXPECT_LT(same.error(target, 4), 1e-10) << pair.verifier << " " << pair.policy;
    if (pair.policy == "chain" && pair.options.empty()) {
      EXPECT_NEAR(same.accepted, pair.budget.max_nodes, 1e-12) << pair.verifier;
    }
    TableModel even(4, 1), odd(4, 1);
    for (int32_t a = -1; a < 4; ++a) {
      const test::Tokens text = a < 0 ? test::Tokens{} : test::Tokens{a};
      even.set(text, {0.3, 0.0, 0.7, 0.0});
      odd.set(text, {0.0, 0.6, 0.0, 0.4});
    }
    Pair shallow = pair;
    shallow.budget = {2, 1};
    const Emission none = run(shallow, even, odd);
    EXPECT_EQ(none.accepted, 0.0) << pair.verifier << " " << pair.policy;
    EXPECT_LT(none.error(even, 2), 1e-10) << pair.verifier << " " << pair.policy;
  }
}

TEST(RatioVerifiers, GiveTheNumbersOfTheBlockVerificationPaper) {
  TableModel target(2, 0), drafter(2, 0);
  for (const test::Tokens& text :
       std::vector<test::Tokens>{{}, {0}, {1}, {0, 0}, {0, 1}, {1, 0}, {1, 1}}) {
    target.set(text, {1.0 / 3, 2.0 / 3});
    drafter.set(text, {2.0 / 3, 1.0 / 3});
  }
  EXPECT_NEAR(run({"rejection", "chain", {}, {2}}, target, drafter).accepted, 10.0 / 9, 1e-12);
  EXPECT_NEAR(run({"block", "chain", {}, {2}}, target, drafter).accepted, 11.0 / 9, 1e-12);
  EXPECT_NEAR(run({"traversal", "chain", {}, {2}}, target, drafter).accepted, 11.0 / 9, 1e-12);
}

TEST(RatioVerifiers, BlockAndTraversalAcceptMoreThanTopDown) {
  for (uint32_t seed = 0; seed < 8; ++seed) {
    const TableModel target(3, seed), drafter(3, 50 + seed);
    const auto accepted = [&](const std::string& verifier, const std::string& policy,
                              const MethodOptions& options, Budget budget) {
      return run({verifier, policy, options, budget}, target, drafter).accepted;
    };
    EXPECT_GT(accepted("block", "chain", {}, {3}), accepted("rejection", "chain", {}, {3}));
    EXPECT_NEAR(accepted("block", "chain", {}, {3}), accepted("traversal", "chain", {}, {3}),
                1e-12);
    const MethodOptions wide = {{"rsd-c.branching", "2"}};
    EXPECT_GT(accepted("traversal", "rsd-c", wide, {6, 2}),
              accepted("swor", "rsd-c", wide, {6, 2}));
  }
}

}  // namespace
}  // namespace forerun
