// Rules that look right and are not (docs/methods.md): the enumeration that finds
// the verifiers exact must see each of them.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "draft/tree_policy.h"
#include "verify/enumeration.h"
#include "verify/verifier.h"

namespace forerun {
namespace {

using test::Decide;
using test::Draft;
using test::drawn;
using test::emission;
using test::TableModel;

constexpr int32_t kVocab = 3;

std::unique_ptr<RatioVerifier> ratio(const std::string& name) {
  return std::unique_ptr<RatioVerifier>(
      dynamic_cast<RatioVerifier*>(make_verifier(name).release()));
}

using MakeDraft = std::function<Draft(const TableModel& drafter)>;

// The largest error over a few models.
double worst(const MakeDraft& draft, const Decide& decide, size_t length = 3) {
  double error = 0.0;
  for (uint32_t seed = 0; seed < 5; ++seed) {
    const TableModel target(kVocab, seed), drafter(kVocab, 200 + seed);
    error = std::max(error, emission(target, draft(drafter), decide).error(target, length));
  }
  return error;
}

double worst(const MakeDraft& draft, RatioVerifier& verifier, size_t length = 3) {
  return worst(draft, test::rule(verifier), length);
}

// Draws of a policy, then changed by `change`.
struct Grown {
  std::shared_ptr<TreePolicy> policy;
  DrawNeed need;
  Budget budget;
  std::function<void(const DraftTree& from, DraftTree& to)> change = {};

  MakeDraft make() const {
    return [grown = *this](const TableModel& drafter) -> Draft {
      const Draft draw =
          drawn(*grown.policy->slots(grown.need), drafter, grown.need.proposal, grown.budget);
      if (!grown.change) return draw;
      return [grown, draw](Dice& dice, DraftTree& tree) {
        DraftTree whole;
        whole.reset(0);
        draw(dice, whole);
        grown.change(whole, tree);
      };
    };
  }
};

std::shared_ptr<TreePolicy> policy(const std::string& name, const MethodOptions& options = {}) {
  return make_policy(name, 8, options);
}

Grown chain(int32_t nodes) { return {policy("chain"), {Proposal::kIndependent, true}, {nodes}}; }
Grown pairs() {
  return {policy("rsd-c", {{"rsd-c.branching", "2"}}), {Proposal::kWithoutReplacement}, {6, 2}};
}
Grown independent(const char* chains = "3") {
  return {policy("chain", {{"chain.chains", chains}}), {Proposal::kIndependent}, {8, 2}};
}

double path_q(const DraftTree& tree, int32_t node) {
  double product = 1.0;
  for (; node > 0; node = tree.parent()[node]) {
    const DrawLaw law = tree.law(tree.parent()[node]);
    const auto at = std::find(law.tokens.begin(), law.tokens.end(), tree.token()[node]);
    product *= law.q[static_cast<size_t>(at - law.tokens.begin())];
  }
  return product;
}

// Copies the nodes that pass `keep`, the children of each node in the order `before` wants.
void copy(const DraftTree& from, DraftTree& to, const std::function<bool(int32_t)>& keep,
          const std::function<bool(int32_t, int32_t)>& before) {
  std::vector<int32_t> node_of(static_cast<size_t>(from.size()), 0), draws;
  std::vector<int32_t> open = {0};
  while (!open.empty()) {
    const int32_t node = open.front();
    open.erase(open.begin());
    const DrawLaw law = from.law(node);
    from.draws(node, draws);
    if (before) std::stable_sort(draws.begin(), draws.end(), before);
    std::erase_if(draws, [&](int32_t child) { return !keep(child); });
    if (draws.empty()) continue;
    to.set_law(node_of[static_cast<size_t>(node)], law.proposal, law.tokens, law.q);
    for (const int32_t child : draws) {
      node_of[static_cast<size_t>(child)] = to.draw(node_of[static_cast<size_t>(node)],
                                                    from.token()[child], 0.5F, DraftSource::kModel);
      open.push_back(child);
    }
  }
}

bool always(int32_t) { return true; }

TEST(WrongVariants, ACopyAloneChangesNothing) {
  Grown same = pairs();
  same.change = [](const DraftTree& from, DraftTree& to) { copy(from, to, always, {}); };
  EXPECT_LT(worst(same.make(), *ratio("swor")), 1e-10);
  EXPECT_LT(worst(same.make(), *ratio("traversal")), 1e-10);
}

TEST(WrongVariants, PruningByTheTokensThatWereDrawn) {
  Grown pruned = pairs();
  pruned.change = [](const DraftTree& from, DraftTree& to) {
    std::vector<int32_t> best;
    for (int32_t node = 1; node < from.size(); ++node) best.push_back(node);
    std::stable_sort(best.begin(), best.end(),
                     [&](int32_t a, int32_t b) { return path_q(from, a) > path_q(from, b); });
    best.resize(std::min(best.size(), size_t{3}));
    const auto keep = [&](int32_t n) {
      return std::find(best.begin(), best.end(), n) != best.end();
    };
    copy(from, to, keep, {});
  };
  EXPECT_GT(worst(pruned.make(), *ratio("swor")), 0.01);
  EXPECT_GT(worst(pruned.make(), *ratio("traversal")), 0.01);
}

TEST(WrongVariants, SiblingsSortedByQ) {
  for (const bool falling : {true, false}) {
    Grown sorted = pairs();
    sorted.change = [falling](const DraftTree& from, DraftTree& to) {
      copy(from, to, always, [&](int32_t a, int32_t b) {
        return falling ? path_q(from, a) > path_q(from, b) : path_q(from, a) < path_q(from, b);
      });
    };
    EXPECT_GT(worst(sorted.make(), *ratio("swor")), 0.05);
    EXPECT_GT(worst(sorted.make(), *ratio("traversal")), 0.05);
  }
}

TEST(WrongVariants, TheOrderOfAStochasticBeamReversed) {
  Grown reversed = {
      policy("rsd-s", {{"rsd-s.beam", "2"}}), {Proposal::kWithoutReplacement}, {4, 2}};
  reversed.change = [](const DraftTree& from, DraftTree& to) {
    copy(from, to, always, [](int32_t a, int32_t b) { return a > b; });
  };
  EXPECT_GT(worst(reversed.make(), *ratio("swor")), 0.01);
}

TEST(WrongVariants, DroppingTheTokenJustDrawnWhereItsQIsLow) {
  Grown dropped = chain(3);
  dropped.change = [](const DraftTree& from, DraftTree& to) {
    const auto low = [&](int32_t n) { return path_q(from, n) < 0.3 * path_q(from, n - 1); };
    int32_t first = 1;
    while (first < from.size() && !low(first)) ++first;
    copy(from, to, [first](int32_t node) { return node < first; }, {});
  };
  EXPECT_GT(worst(dropped.make(), *ratio("rejection"), 4), 0.01);
  EXPECT_GT(worst(dropped.make(), *ratio("block"), 4), 0.01);
  // Kept, and the chain stopped after it, it is exact.
  dropped.change = [](const DraftTree& from, DraftTree& to) {
    const auto low = [&](int32_t n) { return path_q(from, n) < 0.3 * path_q(from, n - 1); };
    int32_t first = 1;
    while (first < from.size() && !low(first)) ++first;
    copy(from, to, [first](int32_t node) { return node <= first; }, {});
  };
  EXPECT_LT(worst(dropped.make(), *ratio("rejection"), 4), 1e-10);
  EXPECT_LT(worst(dropped.make(), *ratio("block"), 4), 1e-10);
}

// The number of draws of K-SEQ must be fixed before the first; specinfer's need not be.
TEST(WrongVariants, DrawingUntilTwoTokensDiffer) {
  const MakeDraft draft = [](const TableModel& drafter) -> Draft {
    return [&drafter](Dice& dice, DraftTree& tree) {
      const std::vector<double>& q = drafter.after({});
      tree.set_law(0, Proposal::kIndependent, std::vector<int32_t>{0, 1, 2}, q);
      for (int draw = 0; draw < 4 && tree.drafted() < 2; ++draw) {
        tree.draw(0, static_cast<int32_t>(dice.pick(q)), 0.5F, DraftSource::kModel);
      }
    };
  };
  EXPECT_GT(worst(draft, *ratio("kseq"), 1), 1e-3);
  EXPECT_LT(worst(draft, *ratio("specinfer"), 1), 1e-10);
}

// Top-down rules with one thing wrong.
class WrongTopDown final : public TopDownVerifier {
 public:
  enum class Fault { kNotRenormalised, kIndependentRule, kSkipsRepeats, kBonusFromP };
  WrongTopDown(Fault fault, Proposal proposal) : fault_(fault), legal_{proposal} {}
  std::string name() const override { return "wrong"; }
  std::span<const Proposal> proposals() const override { return legal_; }

 private:
  int32_t descend(const DraftTree& tree, int32_t node, const TokenLaw& p, Dice& dice,
                  int32_t& bonus) override {
    const DrawLaw law = tree.law(node);
    residual_.begin(p, law);
    tree.draws(node, draws_);
    if (fault_ == Fault::kSkipsRepeats) {
      for (size_t i = draws_.size(); i-- > 0;) {
        const auto at = draws_.begin() + static_cast<int64_t>(i);
        if (std::find(draws_.begin(), at, *at) != at) draws_.erase(at);
      }
    }
    for (const int32_t child : draws_) {
      const size_t i = residual_.index_of(tree.token()[child]);
      if (dice.accept(residual_.r(i), residual_.s(i))) return child;
      if (fault_ != Fault::kBonusFromP) residual_.cut();
    }
    bonus = residual_.draw(p, dice);
    return kStop;
  }
  Fault fault_;
  std::vector<Proposal> legal_;
};
using Fault = WrongTopDown::Fault;

TEST(WrongVariants, QNotRenormalisedAfterARejection) {
  WrongTopDown wrong(Fault::kNotRenormalised, Proposal::kWithoutReplacement);
  EXPECT_GT(worst(pairs().make(), wrong), 0.05);
}

TEST(WrongVariants, TheIndependentRuleOnDrawsWithoutTheirRepetitions) {
  WrongTopDown right(Fault::kIndependentRule, Proposal::kIndependent);
  EXPECT_LT(worst(independent().make(), right), 1e-10);
  WrongTopDown wrong(Fault::kSkipsRepeats, Proposal::kIndependent);
  EXPECT_GT(worst(independent().make(), wrong), 0.01);
  EXPECT_LT(worst(independent().make(), *ratio("swor")), 1e-10);
}

TEST(WrongVariants, TheBonusFromPAfterARejection) {
  WrongTopDown wrong(Fault::kBonusFromP, Proposal::kIndependent);
  EXPECT_GT(worst(chain(2).make(), wrong), 0.05);
}

TEST(WrongVariants, ARatioTestOfChosenTokens) {
  // The likeliest tokens put in place of draws.
  const MakeDraft draft = [](const TableModel& drafter) -> Draft {
    return [&drafter](Dice&, DraftTree& tree) {
      const std::vector<double>& q = drafter.after({});
      std::vector<int32_t> order = {0, 1, 2};
      std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return q[static_cast<size_t>(a)] > q[static_cast<size_t>(b)];
      });
      tree.set_law(0, Proposal::kWithoutReplacement, std::vector<int32_t>{0, 1, 2}, q);
      for (size_t i = 0; i < 2; ++i) tree.draw(0, order[i], 0.5F, DraftSource::kModel);
    };
  };
  EXPECT_GT(worst(draft, *ratio("swor"), 1), 0.1);
}

// Block verification with one thing wrong.
class WrongBlock final : public RatioVerifier {
 public:
  WrongBlock(bool stops_early, bool plain_residual)
      : stops_early_(stops_early), plain_residual_(plain_residual) {}
  std::string name() const override { return "wrong"; }
  std::span<const Proposal> proposals() const override {
    static constexpr Proposal kLegal[] = {Proposal::kIndependent};
    return kLegal;
  }

 private:
  void run(const DraftTree& tree, TargetLaws& target, Dice& dice, Verdict& verdict) override {
    const int32_t last = tree.drafted();
    std::vector<double> weight = {1.0};
    int32_t kept = 0;
    bool running = true;
    for (int32_t i = 0; i <= last; ++i) {
      double keep = weight.back(), rest = 1.0;
      if (i < last) {
        residual_.begin(target.at(i), tree.law(i));
        keep = residual_.overlap(weight.back());
        rest = keep + 1.0 - weight.back();
        const size_t next = residual_.index_of(tree.token()[i + 1]);
        weight.push_back(std::min(1.0, weight.back() * residual_.r(next) / residual_.s(next)));
      }
      const bool shown = i == 0 || rest <= 0.0 || dice.accept(keep, rest);
      running = running && shown;
      if (stops_early_ ? running : shown) kept = i;
    }
    for (int32_t i = 0; i <= kept; ++i) verdict.path.push_back(i);
    const TokenLaw& p = target.at(kept);
    residual_.begin(p, tree.law(kept));
    if (kept < last) residual_.cut(plain_residual_ ? 1.0 : weight[static_cast<size_t>(kept)]);
    verdict.bonus = residual_.draw(p, dice);
  }
  bool stops_early_, plain_residual_;
  Residual residual_;
};

TEST(WrongVariants, BlockVerificationThatStopsAtTheFirstCoinOrForgetsTheWeight) {
  WrongBlock right(false, false), stops(true, false), forgets(false, true);
  EXPECT_LT(worst(chain(3).make(), right, 4), 1e-10);
  EXPECT_GT(worst(chain(3).make(), stops, 4), 0.01);
  EXPECT_GT(worst(chain(3).make(), forgets, 4), 1e-3);
}

// Traversal whose weight becomes Z / (1 - s) after a child failed.
class WrongTraversal final : public RatioVerifier {
 public:
  explicit WrongTraversal(bool wrong) : wrong_(wrong) {}
  std::string name() const override { return "wrong"; }
  std::span<const Proposal> proposals() const override {
    static constexpr Proposal kLegal[] = {Proposal::kWithoutReplacement};
    return kLegal;
  }

 private:
  void run(const DraftTree& tree, TargetLaws& target, Dice& dice, Verdict& verdict) override {
    keeps(tree, target, dice, verdict, 0, 1.0);
    std::reverse(verdict.path.begin(), verdict.path.end());
  }
  bool keeps(const DraftTree& tree, TargetLaws& target, Dice& dice, Verdict& verdict, int32_t node,
             double w) {
    const TokenLaw p = target.at(node);
    Residual residual;
    residual.begin(p, tree.law(node));
    std::vector<int32_t> draws;
    tree.draws(node, draws);
    for (const int32_t child : draws) {
      const size_t i = residual.index_of(tree.token()[child]);
      const double s = residual.s(i);
      if (keeps(tree, target, dice, verdict, child, std::min(1.0, w * residual.r(i) / s))) {
        verdict.path.push_back(node);
        return true;
      }
      const double z = residual.cut(w);
      const double rest = wrong_ ? 1.0 - s : z + 1.0 - w;
      if (node != 0) w = rest > 0.0 ? std::min(1.0, z / rest) : 1.0;
      residual.exclude(i);
    }
    if (!dice.accept(w, 1.0)) return false;
    verdict.path.push_back(node);
    verdict.bonus = residual.draw(p, dice);
    return true;
  }
  bool wrong_;
};

TEST(WrongVariants, TraversalWithTheWrongWeight) {
  WrongTraversal right(false), wrong(true);
  EXPECT_LT(worst(pairs().make(), right), 1e-10);
  EXPECT_GT(worst(pairs().make(), wrong), 1e-3);
}

// Match that draws again after a mismatch, instead of emitting what it drew.
TEST(WrongVariants, AFreshSampleAfterAMismatch) {
  for (const bool fresh : {false, true}) {
    const Decide decide = [fresh](const DraftTree& tree, TargetLaws& target, Dice& dice,
                                  Verdict& verdict) {
      for (int32_t node = 0; node >= 0;) {
        verdict.path.push_back(node);
        const TokenLaw& p = target.at(node);
        verdict.bonus = draw_token(p, dice);
        node = tree.child_with(node, verdict.bonus);
        if (node < 0 && fresh) verdict.bonus = draw_token(p, dice);
      }
    };
    const double error = worst(chain(2).make(), decide);
    if (fresh) {
      EXPECT_GT(error, 0.01);
    } else {
      EXPECT_LT(error, 1e-10);
    }
  }
}

// One token drawn and tested with the same uniform number, integrated over it exactly.
TEST(WrongVariants, OneNoiseForTheDrawAndTheCoin) {
  double error = 0.0;
  for (uint32_t seed = 0; seed < 5; ++seed) {
    const TableModel target(kVocab, seed), drafter(kVocab, 200 + seed);
    const std::vector<double>& p = target.after({});
    const std::vector<double>& q = drafter.after({});
    std::vector<double> out(p.size());
    double from = 0.0, rejected = 0.0, outside = 0.0;
    for (size_t x = 0; x < p.size(); ++x) {
      const double accepted = std::clamp(p[x] / q[x] - from, 0.0, q[x]);  // u in [from, from + q)
      out[x] += accepted;
      rejected += q[x] - accepted;
      from += q[x];
      outside += std::max(p[x] - q[x], 0.0);
    }
    for (size_t x = 0; x < p.size(); ++x) {
      out[x] += rejected * std::max(p[x] - q[x], 0.0) / outside;
      error = std::max(error, std::abs(out[x] - p[x]));
    }
  }
  EXPECT_GT(error, 0.05);
}

}  // namespace
}  // namespace forerun
