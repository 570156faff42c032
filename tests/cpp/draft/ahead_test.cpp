#include "draft/ahead.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <set>

#include "base/error.h"
#include "base/hash.h"

namespace forerun {
namespace {

constexpr int32_t kVocab = 50;

// The guess of rank `rank` after a context.
int32_t guess_after(std::span<const int32_t> context, int32_t rank) {
  uint64_t mixed = 1469598103934665603U;
  for (const int32_t token : context)
    mixed = (mixed ^ static_cast<uint64_t>(token)) * 1099511628211U;
  return static_cast<int32_t>((mixed >> 20) % kVocab + static_cast<uint64_t>(rank)) % kVocab;
}

// What tests steer of the fakes, and what these saw.
struct Stage {
  std::atomic<int32_t> users{0};  // threads inside one of the fakes
  std::atomic<int64_t> proposals{0}, trespasses{0}, wrong_contexts{0};
  std::atomic<int64_t> fails_at{-1};
  std::atomic<int32_t> spins{0};  // of a level
  // Called before every level, with the flag by which it may be told to stop there, or null.
  std::function<void(int32_t level, const std::atomic<bool>* enough)> level;
};

// Two guesses per node, level by level, the first with score 0.8: a drafter that keeps account of
// which context it was last told, as one with a cache does.
class FakeDrafter final : public Drafter {
 public:
  explicit FakeDrafter(std::shared_ptr<Stage> stage) : stage_(std::move(stage)) {}
  std::string name() const override { return "fake"; }
  DraftSource source() const override { return DraftSource::kModel; }
  double expected_ms(int32_t nodes) const override { return nodes; }

  void begin(std::span<const int32_t> context) override {
    const Use use(*stage_);
    known_.assign(context.begin(), context.end());
  }
  void rewind(std::span<const int32_t> context) override { begin(context); }
  void observe(std::span<const int32_t> context, const Observation&) override {
    const Use use(*stage_);
    const bool extends = context.size() >= known_.size() &&
                         std::equal(known_.begin(), known_.end(), context.begin());
    if (!extends) ++stage_->wrong_contexts;
    known_.assign(context.begin(), context.end());
  }
  void propose(std::span<const int32_t> context, const Budget& budget, const DraftNoise&,
               DraftTree& tree) override {
    const Use use(*stage_);
    if (!std::equal(known_.begin(), known_.end(), context.begin(), context.end())) {
      ++stage_->wrong_contexts;
    }
    if (stage_->proposals++ == stage_->fails_at) throw Error(ErrorKind::kDevice, "fake: failed");
    std::vector<int32_t> frontier = {0};
    std::vector<std::vector<int32_t>> paths = {{context.begin(), context.end()}};
    for (int32_t level = 0; level < budget.max_depth; ++level) {
      if (level > 0 && budget.enough != nullptr && *budget.enough) return;
      if (stage_->level) stage_->level(level, budget.enough);
      for (int32_t i = 0; i < stage_->spins; ++i)
        std::atomic_signal_fence(std::memory_order_seq_cst);
      const int32_t best = frontier[0];
      frontier.clear();
      for (int32_t rank = 0; rank < 2; ++rank) {
        if (tree.drafted() >= budget.max_nodes) return;
        const std::vector<int32_t> here = paths[static_cast<size_t>(best)];
        const int32_t token = guess_after(here, rank);
        frontier.push_back(tree.add(best, token, rank == 0 ? 0.8F : 0.1F, DraftSource::kModel));
        paths.push_back(here);
        paths.back().push_back(token);
      }
    }
  }
  std::unique_ptr<Drafter> fork() const override { return std::make_unique<FakeDrafter>(*this); }

 private:
  struct Use {
    explicit Use(Stage& of) : stage(of) {
      if (++stage.users > 1) ++stage.trespasses;
    }
    ~Use() { --stage.users; }
    Stage& stage;
  };
  std::shared_ptr<Stage> stage_;
  std::vector<int32_t> known_;
};

// Every node is what the fake would guess after its path, whatever was ready.
void expect_guesses(const std::vector<int32_t>& context, const DraftTree& tree,
                    const Budget& budget) {
  ASSERT_EQ(tree.token()[0], context.back());
  EXPECT_LE(tree.drafted(), budget.max_nodes);
  EXPECT_LE(tree.max_depth(), budget.max_depth);
  for (int32_t node = 1; node < tree.size(); ++node) {
    std::vector<int32_t> path;
    for (int32_t at = tree.parent()[node]; at > 0; at = tree.parent()[at]) {
      path.insert(path.begin(), tree.token()[at]);
    }
    path.insert(path.begin(), context.begin(), context.end());
    const int32_t token = tree.token()[node];
    EXPECT_TRUE(token == guess_after(path, 0) || token == guess_after(path, 1));
  }
}

class Ahead : public testing::Test {
 protected:
  std::unique_ptr<AheadDrafter> make(bool enabled = true) const {
    return std::make_unique<AheadDrafter>(std::make_unique<FakeDrafter>(stage_), queue_, enabled);
  }
  DraftTree propose(Drafter& drafter, const Budget& budget = {6, 3}) const {
    DraftTree tree;
    tree.reset(context_.back());
    drafter.propose(context_, budget, noise_, tree);
    return tree;
  }
  // The target accepts the first `accepted` nodes of the best path and says `bonus`.
  void step(Drafter& drafter, const DraftTree& tree, int32_t accepted, int32_t bonus) {
    std::vector<int32_t> path = {0};
    for (int32_t i = 0; i < accepted; ++i) {
      const int32_t next = tree.child_with(path.back(), guess_after(context_, 0));
      ASSERT_GE(next, 0);
      path.push_back(next);
      context_.push_back(tree.token()[next]);
    }
    context_.push_back(bonus);
    drafter.observe(context_, {&tree, path, bonus, {}, 0});
  }
  // Lets the work ahead come to its end, as a slow target does.
  static void let_finish(WorkQueue& queue) {
    WorkQueue::Task barrier([] {});
    queue.run(barrier);
  }
  void expect_clean() const {
    EXPECT_EQ(stage_->trespasses, 0);
    EXPECT_EQ(stage_->wrong_contexts, 0);
    EXPECT_EQ(stage_->users, 0);
  }

  std::shared_ptr<Stage> stage_ = std::make_shared<Stage>();
  std::shared_ptr<WorkQueue> queue_ = std::make_shared<WorkQueue>();
  std::vector<int32_t> context_ = {1, 2, 3};
  DraftNoise noise_;
};

TEST_F(Ahead, TheNextTreeIsReadyWhenTheBestPathHoldsAndTheBonusWasGuessed) {
  const auto drafter = make();
  drafter->begin(context_);
  for (int round = 0; round < 5; ++round) {
    const DraftTree tree = propose(*drafter);
    expect_guesses(context_, tree, {6, 3});
    EXPECT_GT(tree.drafted(), 3);
    EXPECT_EQ(drafter->counts().hits, round);
    drafter->start_ahead(tree);
    let_finish(*queue_);
    std::vector<int32_t> end = context_;
    for (int i = 0; i < 3; ++i) end.push_back(guess_after(end, 0));
    step(*drafter, tree, 3, guess_after(end, 0));
  }
  expect_clean();
}

TEST_F(Ahead, AHitAsksTheInnerDrafterForNothing) {
  const auto drafter = make();
  drafter->begin(context_);
  const DraftTree tree = propose(*drafter);
  drafter->start_ahead(tree);
  let_finish(*queue_);
  const int64_t before = stage_->proposals;
  std::vector<int32_t> end = context_;
  for (int i = 0; i < 3; ++i) end.push_back(guess_after(end, 0));
  step(*drafter, tree, 3, guess_after(end, 0));
  propose(*drafter);
  EXPECT_EQ(stage_->proposals, before);
  EXPECT_EQ(before, 1 + AheadDrafter::kLeaves);
}

TEST_F(Ahead, AMissIsDraftedAfresh) {
  const auto drafter = make();
  drafter->begin(context_);
  for (const int32_t accepted : {0, 1, 2, 3}) {
    const DraftTree tree = propose(*drafter);
    drafter->start_ahead(tree);
    let_finish(*queue_);
    std::vector<int32_t> end = context_;
    for (int i = 0; i < accepted; ++i) end.push_back(guess_after(end, 0));
    step(*drafter, tree, accepted, (guess_after(end, 0) + 7) % kVocab);
    const DraftTree next = propose(*drafter);
    expect_guesses(context_, next, {6, 3});
    EXPECT_EQ(next.drafted(), 6);
  }
  EXPECT_EQ(drafter->counts().hits, 0);
  expect_clean();
}

TEST_F(Ahead, WorkThatTheTruthContradictsIsLeftAndWorkThatItConfirmsIsFinished) {
  for (const bool agrees : {true, false}) {
    const auto drafter = make();
    drafter->begin(context_);
    const auto before = std::chrono::steady_clock::now();
    const DraftTree tree = propose(*drafter);
    const auto fresh = std::chrono::steady_clock::now() - before;
    std::atomic<bool> inside{false};
    std::atomic<int32_t> deepest{0};
    // In its second level the work ahead waits to be told that it is in vain.
    stage_->level = [&](int32_t level, const std::atomic<bool>* enough) {
      deepest = std::max(deepest.load(), level);
      if (level != 1 || inside.exchange(true)) return;
      const auto limit = std::chrono::steady_clock::now() +
                         (agrees ? std::chrono::milliseconds(20) : std::chrono::seconds(30));
      while (!*enough && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
    };
    drafter->start_ahead(tree);
    while (!inside) std::this_thread::yield();
    std::this_thread::sleep_for(fresh);  // come so far, it is worth finishing
    std::vector<int32_t> end = context_;
    for (int i = 0; i < (agrees ? 3 : 1); ++i) end.push_back(guess_after(end, 0));
    step(*drafter, tree, agrees ? 3 : 1, guess_after(end, agrees ? 0 : 9));
    EXPECT_EQ(deepest, agrees ? 3 : 1);
    stage_->level = nullptr;
    expect_guesses(context_, propose(*drafter), {6, 3});
    EXPECT_EQ(drafter->counts().hits, agrees ? 1 : 0);
  }
  expect_clean();
}

TEST_F(Ahead, NothingIsDraftedAheadOfDrawsOfPlainStepsOrWhenItIsOff) {
  const auto count_of = [&](Drafter& drafter, const Budget& budget) {
    drafter.begin(context_);
    const DraftTree tree = propose(drafter, budget);
    const int64_t before = stage_->proposals;
    drafter.start_ahead(tree);
    let_finish(*queue_);
    drafter.end_ahead();
    return stage_->proposals - before;
  };
  EXPECT_EQ(count_of(*make(), {6, 3}), AheadDrafter::kLeaves);
  EXPECT_EQ(count_of(*make(), {0, 3}), 0);
  EXPECT_EQ(count_of(*make(false), {6, 3}), 0);
  noise_.need.proposal = Proposal::kIndependent;
  EXPECT_EQ(count_of(*make(), {6, 3}), 0);
}

TEST_F(Ahead, AFailureOfWorkAheadShowsInTheNextProposalOnce) {
  const auto drafter = make();
  drafter->begin(context_);
  stage_->fails_at = 2;
  const DraftTree tree = propose(*drafter);
  drafter->start_ahead(tree);
  let_finish(*queue_);
  step(*drafter, tree, 1, 40);
  EXPECT_THROW(propose(*drafter), Error);
  drafter->begin(context_);
  expect_guesses(context_, propose(*drafter), {6, 3});
}

TEST_F(Ahead, ReadyTreesLowerTheExpectedTime) {
  const auto drafter = make();
  drafter->begin(context_);
  EXPECT_DOUBLE_EQ(drafter->expected_ms(8), 8.0);
  for (int round = 0; round < 40; ++round) {
    const DraftTree tree = propose(*drafter);
    drafter->start_ahead(tree);
    let_finish(*queue_);
    std::vector<int32_t> end = context_;
    for (int i = 0; i < 3; ++i) end.push_back(guess_after(end, 0));
    step(*drafter, tree, 3, guess_after(end, 0));
  }
  EXPECT_LT(drafter->expected_ms(8), 1.0);
  EXPECT_GT(drafter->expected_ms(8), 0.0);
}

TEST(AheadTrials, ChooseWhatTakesLessAndAskAgainNowAndThen) {
  for (const double ahead_ms : {8.0, 12.0}) {
    AheadTrial trial;
    int32_t ahead = 0, others = 0;
    for (int32_t step = 0; step < 1000; ++step) {
      const bool now = trial.next();
      trial.add(now, now ? ahead_ms : 10.0);
      (now ? ahead : others) += 1;
    }
    const int32_t slower = ahead_ms > 10.0 ? ahead : others;
    EXPECT_GE(slower, AheadTrial::kFirst + 10);
    EXPECT_LE(slower, AheadTrial::kBefore + 1000 / AheadTrial::kAgain + 1);
  }
}

TEST(AheadTrials, BeginInTurnAndTryNothingWhereFewStepsDraft) {
  AheadTrial trial;
  for (int32_t step = 0; step < AheadTrial::kBefore; ++step) {
    EXPECT_FALSE(trial.next());
    trial.add(false, 10.0);
  }
  EXPECT_TRUE(trial.next());
}

TEST(AheadTrials, FollowAMachineThatChangesAndForgetAStumble) {
  AheadTrial trial;
  const auto share_ahead = [&trial](double ahead_ms, int32_t steps) {
    int32_t ahead = 0;
    for (int32_t step = 0; step < steps; ++step) {
      const bool now = trial.next();
      trial.add(now, step == 30 ? 10000.0 : now ? ahead_ms : 10.0);
      ahead += now ? 1 : 0;
    }
    return static_cast<double>(ahead) / steps;
  };
  EXPECT_GT(share_ahead(7.0, 400), 0.8);
  EXPECT_LT(share_ahead(15.0, 400), 0.3);
  EXPECT_GT(share_ahead(5.0, 2000), 0.6);
}

// Random orders of events: truths that agree or not, at any moment of the work ahead; rewinds,
// forks, new contexts, failures, and drafters that are destroyed while they work.
class Schedules : public Ahead, public testing::WithParamInterface<uint32_t> {
 protected:
  void run_one(std::mt19937& random) {
    const auto one_in = [&random](uint32_t n) { return random() % n == 0; };
    context_.assign(3, static_cast<int32_t>(random() % kVocab));
    std::unique_ptr<Drafter> drafter = make();
    drafter->begin(context_);
    stage_->spins = static_cast<int32_t>(random() % 3000);
    stage_->fails_at =
        one_in(20) ? stage_->proposals + static_cast<int64_t>(random() % 8) : int64_t{-1};
    for (int round = 0; round < 4; ++round) {
      const Budget budget{static_cast<int32_t>(random() % 8),
                          1 + static_cast<int32_t>(random() % 4)};
      DraftTree tree;
      try {
        tree = propose(*drafter, budget);
      } catch (const Error&) {
        drafter->begin(context_);
        continue;
      }
      expect_guesses(context_, tree, budget);
      drafter->start_ahead(tree);
      for (uint32_t i = random() % 20000; i > 0; --i)
        std::atomic_signal_fence(std::memory_order_seq_cst);
      if (one_in(12)) return;                // destroyed at work
      if (one_in(12)) drafter->end_ahead();  // the target failed
      if (one_in(12)) {
        drafter->end_ahead();
        drafter = drafter->fork();
      }
      if (one_in(10)) {
        context_.resize(1 + random() % context_.size());
        drafter->rewind(context_);
        continue;
      }
      int32_t depth = 0;
      for (int32_t node = 0; (node = tree.child_with(node, guess(depth))) >= 0;) ++depth;
      const int32_t accepted =
          one_in(2) ? depth : static_cast<int32_t>(random() % static_cast<uint32_t>(depth + 1));
      step(*drafter, tree, accepted, one_in(3) ? 9 : guess(accepted));
    }
  }
  int32_t guess(int32_t depth) const {  // after so many of the best guesses
    std::vector<int32_t> path = context_;
    for (int32_t i = 0; i < depth; ++i) path.push_back(guess_after(path, 0));
    return guess_after(path, 0);
  }
};

TEST_P(Schedules, EndWithoutADeadlockAStaleGuessOrTwoThreadsInOneDrafter) {
  std::mt19937 random(GetParam());
  for (int i = 0; i < 1250; ++i) run_one(random);
  expect_clean();
}
INSTANTIATE_TEST_SUITE_P(TenThousand, Schedules, testing::Range(0U, 8U));

}  // namespace
}  // namespace forerun
