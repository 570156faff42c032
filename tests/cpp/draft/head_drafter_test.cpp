#include "draft/head_drafter.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "backend/simulated.h"
#include "base/blocks.h"
#include "base/error.h"
#include "draft/contract.h"
#include "draft/on_a_cache.h"
#include "model/tiny_head.h"

namespace forerun {
namespace {

constexpr int32_t kVocab = 260;
constexpr int32_t kContext = 4096;

std::shared_ptr<const Model> target() {
  static const std::shared_ptr<const Model> model = [] {
    const test::TinyModelFile file({});
    return Model::load(open_checkpoint(file.path()), make_cpu_backend(1));
  }();
  return model;
}

std::shared_ptr<Backend> same_backend() {
  return {target(), &target()->backend()};  // owned by the target
}

std::shared_ptr<const DraftHead> head_of(const test::TinyHead& wanted) {
  const test::TinyHeadFile file(wanted);
  return DraftHead::load(open_checkpoint(file.path()), target(), 0, same_backend());
}

// Its costs are never 0, so that there is something to expect of start_ms().
std::unique_ptr<HeadDrafter> drafter_with(const std::shared_ptr<const DraftHead>& head,
                                          const std::string& policy = "eagle2") {
  const auto costs = std::make_shared<LevelCosts>();
  costs->set(1.0, 1.0);
  return std::make_unique<HeadDrafter>(head, std::make_shared<HeadScratch>(*head),
                                       make_policy(policy, 4), kContext, costs);
}

const std::vector<test::TinyHead> kHeads = {
    {},
    {.dtype = DType::kQ8_0, .blocks = 2, .columns = 40},
    {.family = "eagle", .columns = 100, .own_head = true},
    {.family = "eagle3", .blocks = 2, .taps = {1, 0, -1}, .columns = 90, .own_head = true},
    {.family = "medusa", .blocks = 0, .columns = 90, .stacks = 4},
    {.family = "hydra", .columns = 90, .stacks = 4},
    {.family = "chimera", .columns = 90},
    {.family = "chimera", .dtype = DType::kQ8_0, .columns = 90, .own_head = true},
    {.family = "falcon", .columns = 90, .span = 2},
    {.family = "falcon", .dtype = DType::kQ8_0, .columns = 90, .own_head = true, .span = 3}};

std::vector<int32_t> some_text(size_t length, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(length);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 250);
  return tokens;
}

test::DrafterContract contract_of(const std::shared_ptr<const DraftHead>& head,
                                  const std::string& policy) {
  test::DrafterContract contract;
  contract.vocab = kVocab;
  contract.rounds = 20;
  contract.hidden_width = head->config().features();
  contract.make = [head, policy] { return drafter_with(head, policy); };
  return contract;
}

// A fresh drafter makes all rows from scratch, so equal drafts show that what was kept is right.
TEST(HeadDrafter, KeepsTheContractOfDraftersForEveryFamilyPolicyAndTemperature) {
  for (const test::TinyHead& wanted : kHeads) {
    const auto head = head_of(wanted);
    for (const char* policy : {"chain", "eagle2", "opt-tree", "gumbel"}) {
      for (const float temperature : {0.0F, 0.8F}) {
        test::DrafterContract contract = contract_of(head, policy);
        contract.noise = {17, temperature};
        contract.check(5);
      }
    }
  }
}

const test::TinyHead kKangaroo = {
    .family = "kangaroo", .blocks = 2, .ffn = 0, .taps = {1}, .columns = 90};

// The rows of the text are made of what the contract says, those of a tree by the target's first
// layer: two different things here, and still the same after every history.
TEST(HeadDrafter, KeepsTheContractBehindLayersOfTheTarget) {
  for (const int32_t ffn : {0, 64}) {
    test::TinyHead wanted = kKangaroo;
    wanted.ffn = ffn;
    const auto head = head_of(wanted);
    for (const char* policy : {"chain", "eagle2"}) {
      for (const float temperature : {0.0F, 0.8F}) {
        test::DrafterContract contract = contract_of(head, policy);
        contract.noise = {17, temperature};
        contract.make = [head, policy] {
          return std::make_unique<test::OnACache>(target(), 512, drafter_with(head, policy));
        };
        contract.check(5);
      }
    }
  }
}

// A head behind a link gets half floats: it drafts what one beside the target does from states that
// were rounded before, and nearly what it would from the states themselves.
TEST(HeadDrafter, StatesCrossALinkAsHalfFloats) {
  for (const test::TinyHead& wanted : kHeads) {
    const test::TinyHeadFile file(wanted);
    auto device = std::make_shared<SimulatedDevice>();
    const auto far = DraftHead::load(open_checkpoint(file.path()), target(), 0,
                                     make_simulated_backend(make_cpu_backend(1), device));
    const auto near = DraftHead::load(open_checkpoint(file.path()), target(), 0, same_backend());
    const int32_t features = near->config().features();
    for (uint32_t seed = 0; seed < 6; ++seed) {
      const std::vector<int32_t> context = some_text(20, seed);
      std::mt19937 random(seed);
      std::normal_distribution<float> normal;
      std::vector<float> exact(20 * static_cast<size_t>(features));
      for (float& value : exact) value = normal(random);
      std::vector<float> rounded = exact;
      for (float& value : rounded) value = half_to_float(float_to_half(value));
      const auto proposed = [&](const std::shared_ptr<const DraftHead>& head,
                                const std::vector<float>& states) {
        const auto drafter = drafter_with(head);
        drafter->begin(context);
        drafter->read(context, 0, {states.data(), features, 19, features});
        DraftTree tree;
        tree.reset(context.back());
        drafter->propose(context, {12, 4}, {}, tree);
        return tree;
      };
      const DraftTree crossed = proposed(far, exact);
      test::DrafterContract::expect_equal(crossed, proposed(near, rounded));
      // The likeliest first guess stays, and nearly how likely it is: the rounding moves some of
      // the int8 codes of activations by one.
      const DraftTree whole = proposed(near, exact);
      int32_t best = 1;
      for (int32_t node = 2; node < whole.size(); ++node) {
        const bool first = whole.parent()[node] == DraftTree::kRoot;
        if (first && whole.score()[node] > whole.score()[best]) best = node;
      }
      const int32_t found = crossed.child_with(DraftTree::kRoot, whole.token()[best]);
      ASSERT_GT(found, 0) << wanted.family;
      EXPECT_NEAR(crossed.score()[found], whole.score()[best], 0.1F * whole.score()[best]);
    }
  }
}

TEST(HeadDrafter, OnlyTwoBytesAValueOfAStateCross) {
  for (const test::TinyHead& wanted : {test::TinyHead{}, kHeads[3]}) {
    const test::TinyHeadFile file(wanted);
    auto device = std::make_shared<SimulatedDevice>();
    const auto head = DraftHead::load(open_checkpoint(file.path()), target(), 0,
                                      make_simulated_backend(make_cpu_backend(1), device));
    const int32_t features = head->config().features();
    const auto drafter = drafter_with(head);
    const std::vector<int32_t> context = some_text(20, 1);
    const std::vector<float> states(11 * static_cast<size_t>(features), 0.5F);
    drafter->begin(context);
    const int64_t before = device->copied;
    drafter->read(context, 0, {states.data(), features, 11, features});
    // Of 10 rows: their states, the embeddings of their tokens and the rotations.
    const int32_t others = target()->config().width + head->config().rope.rotary;
    EXPECT_EQ(device->copied - before, 10 * (2 * features + 4 * others)) << wanted.family;
  }
}

TEST(HeadDrafter, NeedsTheTargetsCacheBehindItsLayers) {
  const auto head = head_of(kKangaroo);
  const test::DrafterContract contract = contract_of(head, "chain");
  const std::vector<int32_t> context = some_text(20, 3);
  const auto drafter = drafter_with(head);
  contract.begin(*drafter, context);
  EXPECT_EQ(contract.propose(*drafter, context, {4, 4}).drafted(), 0);
  KvCache empty(target()->backend(), target()->kv_layout(), 64);
  drafter->borrow(empty);
  EXPECT_EQ(contract.propose(*drafter, context, {4, 4}).drafted(), 0);
  empty.prepare(19);
  empty.commit_rows(19);
  EXPECT_EQ(contract.propose(*drafter, context, {4, 4}).drafted(), 4);
}

TEST(HeadDrafter, LiesWhereTheLayersLieThatItRuns) {
  const test::TinyHeadFile file(kKangaroo);
  try {
    DraftHead::load(open_checkpoint(file.path()), target(), 0, make_cpu_backend(1));
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
  }
}

TEST(HeadDrafter, DrawsAsVerifiersThatTestRatiosNeedIt) {
  const auto head = head_of({.columns = 40});
  test::DrafterContract contract = contract_of(head, "rsd-s");
  Sampling sampling;
  sampling.temperature = 0.8F;
  contract.noise = {17, 0.8F, {Proposal::kWithoutReplacement, false}, &sampling};
  contract.check(6);
  const auto drafter = contract.make();
  const std::vector<int32_t> context = some_text(20, 3);
  contract.begin(*drafter, context);
  const DraftTree tree = contract.propose(*drafter, context, {8, 4});
  const DrawLaw law = tree.law(DraftTree::kRoot);
  EXPECT_EQ(law.proposal, Proposal::kWithoutReplacement);
  const std::vector<int32_t>& allowed = head->config().tokens;
  for (const int32_t token : law.tokens) {
    EXPECT_TRUE(std::binary_search(allowed.begin(), allowed.end(), token));
  }
}

TEST(HeadDrafter, ProposesOnlyTokensOfTheDraftsVocabulary) {
  const auto head = head_of({.columns = 40});
  const std::vector<int32_t>& allowed = head->config().tokens;
  ASSERT_EQ(allowed.size(), 40U);
  const test::DrafterContract contract = contract_of(head, "eagle2");
  const auto drafter = contract.make();
  const std::vector<int32_t> context = some_text(20, 3);
  contract.begin(*drafter, context);
  const DraftTree tree = contract.propose(*drafter, context, {16, 6});
  EXPECT_EQ(tree.drafted(), 16);
  for (int32_t node = 1; node < tree.size(); ++node) {
    EXPECT_TRUE(std::binary_search(allowed.begin(), allowed.end(), tree.token()[node]));
  }
}

// Rotations depend on distances only, so a head that starts later drafts as one that has read the
// same rows at other positions.
TEST(HeadDrafter, StartsAtTheFirstTokenWhoseStateItGets) {
  const auto head = head_of({});
  const test::DrafterContract contract = contract_of(head, "eagle2");
  const std::vector<int32_t> context = some_text(100, 4);
  const auto late = contract.make(), none = contract.make();
  contract.begin(*late, context, 64);
  none->begin(context);
  EXPECT_EQ(contract.propose(*none, context, {8, 4}).drafted(), 0);
  EXPECT_EQ(contract.propose(*late, context, {8, 4}).drafted(), 8);
  EXPECT_EQ(static_cast<HeadDrafter&>(*late).cached(), 34);  // of tokens 65 to 98; the root's waits
}

// So that the first guess costs no more than any other.
TEST(HeadDrafter, ReadsAPromptAlongWithTheTarget) {
  for (const test::TinyHead& wanted : kHeads) {
    const auto head = head_of(wanted);
    const test::DrafterContract contract = contract_of(head, "eagle2");
    const std::vector<int32_t> context = some_text(200, 9);
    const auto drafter = contract.make();
    contract.begin(*drafter, context);
    if (wanted.blocks > 0) {
      EXPECT_EQ(static_cast<HeadDrafter&>(*drafter).cached(), 198);  // the root's row waits
    }
    EXPECT_EQ(drafter->start_ms(200), 0.0);
  }
}

TEST(HeadDrafter, ReadsABoundedPartOfALongPrompt) {
  const auto head = head_of({.ffn = 32, .heads = 1, .kv_heads = 1});
  const test::DrafterContract contract = contract_of(head, "chain");
  const std::vector<int32_t> context = some_text(3500, 5);
  const auto drafter = contract.make(), other = contract.make();
  contract.begin(*drafter, context);
  EXPECT_GT(contract.propose(*drafter, context, {4, 4}).drafted(), 0);
  const int32_t cached = static_cast<HeadDrafter&>(*drafter).cached();
  EXPECT_GE(cached, HeadDrafter::kKept - 1);
  EXPECT_LE(cached, 2 * HeadDrafter::kKept);
  // Reading it in one go or asked in between makes no difference to what a plain step costs then.
  EXPECT_EQ(drafter->start_ms(static_cast<int32_t>(context.size())), 0.0);
}

// Rows whose states are forgotten before they were made cannot be made: the cache starts anew.
TEST(HeadDrafter, StartsAnewWhenItWasNotAskedForLong) {
  const auto head = head_of({.ffn = 32, .heads = 1, .kv_heads = 1});
  const test::DrafterContract contract = contract_of(head, "eagle2");
  std::vector<int32_t> context = some_text(40, 7);
  const auto drafter = contract.make(), fresh = contract.make();
  contract.begin(*drafter, context);
  contract.propose(*drafter, context, {4, 2});
  const std::vector<int32_t> path = {0};
  for (int32_t token : some_text(2 * HeadDrafter::kKept + 50, 8)) {
    const std::vector<float> state = contract.hidden_state(context);
    const auto width = static_cast<int32_t>(state.size());
    context.push_back(token);
    drafter->observe(context, {nullptr, path, token, {}, 0, {state.data(), width, 1, width}});
  }
  const DraftTree drafted = contract.propose(*drafter, context, {8, 4});
  EXPECT_EQ(drafted.drafted(), 8);
  const int32_t rows = static_cast<HeadDrafter&>(*drafter).cached() + 1;
  EXPECT_GE(rows, HeadDrafter::kKept);
  EXPECT_LE(rows, 2 * HeadDrafter::kKept);
  contract.begin(*fresh, context, static_cast<int32_t>(context.size()) - 1 - rows);
  contract.expect_equal(drafted, contract.propose(*fresh, context, {8, 4}));
}

TEST(HeadDrafter, GoesOnAfterARewindThatCutsAwayItsStates) {
  const auto head = head_of({});
  const test::DrafterContract contract = contract_of(head, "eagle2");
  std::vector<int32_t> context = some_text(100, 6);
  const auto drafter = contract.make();
  contract.begin(*drafter, context, 64);
  contract.propose(*drafter, context, {8, 4});
  context.resize(50);
  drafter->rewind(context);
  DraftTree tree = contract.propose(*drafter, context, {8, 4});
  EXPECT_EQ(tree.drafted(), 0);
  const std::vector<float> state = contract.hidden_state(context);
  context.push_back(7);
  const std::vector<int32_t> path = {0};
  const auto width = static_cast<int32_t>(state.size());
  drafter->observe(context, {&tree, path, 7, {}, 0, {state.data(), width, 1, width}});
  EXPECT_EQ(contract.propose(*drafter, context, {8, 4}).drafted(), 8);
}

// The root's rows of a span read more states than the row that follows the cache.
TEST(HeadDrafter, OfSpansStartsAnewWhereARewindLeavesTooFewStatesForItsRoot) {
  for (const int32_t span : {2, 3}) {
    const auto head = head_of({.family = "falcon", .columns = 90, .span = span});
    const test::DrafterContract contract = contract_of(head, "eagle2");
    const int32_t longest = 2 * HeadDrafter::kKept + 2;
    const std::vector<int32_t> text = some_text(static_cast<size_t>(longest), 6);
    for (int32_t left = longest - HeadDrafter::kKept + 1; left < 137; ++left) {
      const auto drafter = contract.make(), fresh = contract.make();
      std::vector<int32_t> context(text.begin(), text.begin() + 4);
      contract.begin(*drafter, context);
      const std::vector<int32_t> path = {0};
      while (context.size() < text.size()) {  // the oldest states go with the last token
        contract.propose(*drafter, context, {2, 1});
        const std::vector<float> state = contract.hidden_state(context);
        const auto width = static_cast<int32_t>(state.size());
        context.push_back(text[context.size()]);
        drafter->observe(context,
                         {nullptr, path, context.back(), {}, 0, {state.data(), width, 1, width}});
      }
      context.resize(static_cast<size_t>(left));
      drafter->rewind(context);
      const int32_t first = longest - HeadDrafter::kKept;  // token whose state is the oldest left
      const bool kept = left - (2 * span - 1) >= first;
      EXPECT_EQ(static_cast<HeadDrafter&>(*drafter).cached() > 0, kept) << span << " " << left;
      const DraftTree tree = contract.propose(*drafter, context, {6, 3});
      EXPECT_EQ(tree.drafted(), 6);
      if (kept) continue;
      contract.begin(*fresh, context, first - 1);
      contract.expect_equal(tree, contract.propose(*fresh, context, {6, 3}));
    }
  }
}

TEST(HeadDrafter, ItsHeadIsTheTargetsOwnRowsWhereTheFileHasNone) {
  const auto all = head_of({.seed = 3}), few = head_of({.columns = 100, .seed = 3});
  HeadWorkspace a(all->backend(), all->config(), 4, 4), b(few->backend(), few->config(), 4, 4);
  const std::vector<int32_t> tokens = {5, 6, 7};
  std::vector<float> states(3 * 256, 0.25F);
  const Tensor rows(states.data(), 3, 256);
  const auto run = [&](const DraftHead& head, HeadWorkspace& w) {
    KvCache cache(head.backend(), head.kv_layout(), 64);
    Batch batch;
    batch.add_causal(cache, tokens, 3);
    return head.forward(batch, {rows, tokens, 0}, w).logits;
  };
  const Tensor whole = run(*all, a), part = run(*few, b);
  EXPECT_EQ(whole.cols, kVocab);
  for (int32_t column = 0; column < 100; ++column) {
    for (int32_t row = 0; row < 3; ++row) {
      const int32_t token = few->config().tokens[static_cast<size_t>(column)];
      ASSERT_EQ(part.row(row)[column], whole.row(row)[token]);
    }
  }
}

}  // namespace
}  // namespace forerun
