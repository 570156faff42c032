#include "draft/shared_noise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "draft/lookup.h"
#include "draft/trigram.h"

namespace forerun {
namespace {

constexpr uint64_t kSeed = 77;
constexpr size_t kContext = 40;

struct Candidate {
  int32_t token;
  float share;
};

// A law over 40 tokens, of which a table knows the first three.
std::vector<double> law() {
  std::vector<double> p(40, 0.2 / 37);
  p[0] = 0.4, p[1] = 0.25, p[2] = 0.15;
  return p;
}

// The token that the target takes: the arg max of log p + G.
int32_t taken(const std::vector<double>& p, int64_t position) {
  int32_t best = 0;
  double most = -1e300;
  for (int32_t token = 0; token < static_cast<int32_t>(p.size()); ++token) {
    const double sum =
        std::log(p[static_cast<size_t>(token)]) + gumbel_noise(kSeed, position, token);
    if (sum > most) most = sum, best = token;
  }
  return best;
}

std::vector<Candidate> known() { return {{0, 0.4F}, {1, 0.25F}, {2, 0.15F}}; }

TEST(SharedNoise, FindsTheTokenThatTheTargetTakesTheOftenerTheSurerItIs) {
  constexpr int32_t kTries = 4000;
  const DraftNoise noise{.seed = kSeed, .temperature = 0.8F};
  int32_t right = 0, usual = 0, sure = 0, right_if_sure = 0;
  for (int32_t depth = 0; depth < kTries; ++depth) {
    std::vector<Candidate> shares = known();
    SharedNoise(noise, kContext).apply(depth, std::span(shares), &Candidate::share);
    float sum = 0.0F;
    const Candidate* best = &shares[0];
    for (const Candidate& each : shares) {
      ASSERT_GE(each.share, 0.0F);
      sum += each.share;
      if (each.share > best->share) best = &each;
    }
    ASSERT_LE(sum, 1.0F);
    const int32_t token = taken(law(), static_cast<int64_t>(kContext) + depth);
    right += token == best->token ? 1 : 0;
    usual += token == 0 ? 1 : 0;
    sure += best->share > 0.6F ? 1 : 0;
    right_if_sure += best->share > 0.6F && token == best->token ? 1 : 0;
  }
  EXPECT_NEAR(usual, 0.4 * kTries, 150);  // what the likeliest token alone would get
  EXPECT_GT(right, 0.7 * kTries);         // the law of what is listed and the rest allows 0.8
  EXPECT_GT(sure, 0.2 * kTries);
  EXPECT_GT(right_if_sure, 0.9 * sure);
  EXPECT_LT(right - right_if_sure, 0.8 * (kTries - sure));
}

TEST(SharedNoise, CountsWhatTheContextLeavesOut) {
  std::vector<Candidate> here = known(), there = known(), elsewhere = known();
  SharedNoise({.seed = kSeed, .temperature = 1.0F}, 30)
      .apply(5, std::span(here), &Candidate::share);
  SharedNoise({.seed = kSeed, .temperature = 1.0F, .unseen = 20}, 10)
      .apply(5, std::span(there), &Candidate::share);
  SharedNoise({.seed = kSeed, .temperature = 1.0F}, 10)
      .apply(5, std::span(elsewhere), &Candidate::share);
  for (size_t i = 0; i < here.size(); ++i) EXPECT_EQ(here[i].share, there[i].share);
  EXPECT_NE(here[0].share, elsewhere[0].share);
}

TEST(SharedNoise, LeavesSharesAloneWhereNothingIsDrawnOrTheDraftDrawsItself) {
  DraftNoise draws{.seed = kSeed, .temperature = 1.0F};
  draws.need.proposal = Proposal::kIndependent;
  for (const DraftNoise& noise : {DraftNoise{.seed = kSeed}, draws}) {
    std::vector<Candidate> shares = known();
    SharedNoise(noise, kContext).apply(0, std::span(shares), &Candidate::share);
    for (size_t i = 0; i < shares.size(); ++i) EXPECT_EQ(shares[i].share, known()[i].share);
  }
}

// Tables that saw the tokens 0, 1 and 2 follow two others each a third of the time: with the
// request's seed their first guess is the token that the target takes far more often than a third
// of the time.
template <typename Make>
int32_t right_of(const Make& make) {
  std::vector<int32_t> text;
  for (int32_t i = 0; i < 30; ++i) text.insert(text.end(), {60, 50, i % 3, 100 + i});
  text.insert(text.end(), {60, 50});
  const std::vector<double> thirds = {1.0 / 3, 1.0 / 3, 1.0 / 3};
  int32_t right = 0;
  for (int32_t more = 0; more < 300; ++more) {
    text.insert(text.end() - 2, 201 + more);
    const auto drafter = make();
    drafter->begin(text);
    DraftTree tree;
    tree.reset(text.back());
    drafter->propose(text, {1}, {.seed = kSeed, .temperature = 1.0F}, tree);
    const int32_t token = taken(thirds, static_cast<int64_t>(text.size()));
    right += tree.drafted() > 0 && tree.token()[1] == token ? 1 : 0;
  }
  return right;
}

TEST(SharedNoise, IsWhatTablesGuessWith) {
  EXPECT_GT(right_of([] {
              return std::make_unique<TrigramDrafter>(
                  std::make_shared<TrigramTable>(TrigramTable::kLeastBytes));
            }),
            200);
  EXPECT_GT(right_of([] { return std::make_unique<LookupDrafter>(LookupOptions{}); }), 200);
}

}  // namespace
}  // namespace forerun
