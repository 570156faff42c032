#include "draft/ahead.h"

#include <algorithm>
#include <utility>

namespace forerun {
namespace {

constexpr int32_t kRoom = 272;  // nodes of a branch that need no allocation
constexpr double kMove = 0.1;
constexpr double kLeastCost = 0.1;  // of drafting when all is ready: it still counts as work

bool extends(std::span<const int32_t> context, std::span<const int32_t> beginning) {
  return context.size() >= beginning.size() &&
         std::equal(beginning.begin(), beginning.end(), context.begin());
}

void move_average(double& average, double value) {
  average = average == 0.0 ? value : average + kMove * (value - average);
}

}  // namespace

bool AheadTrial::next() {
  if (seen_[0] < kBefore) return false;
  if (seen_[1] < kFirst) return true;
  const bool pays = ms_[1] < kMargin * ms_[0];
  if (++since_ < kAgain) return pays;
  since_ = 0;
  return !pays;
}

void AheadTrial::add(bool ahead, double ms) {
  double& average = ms_[ahead];
  const double move = std::max(kMove, 1.0 / ++seen_[ahead]);
  average += move * (std::min(ms, seen_[ahead] > 1 ? kClip * average : ms) - average);
}

AheadDrafter::AheadDrafter(std::unique_ptr<Drafter> inner, std::shared_ptr<WorkQueue> queue,
                           bool enabled, std::shared_ptr<AheadTrial> trial)
    : inner_(std::move(inner)),
      queue_(std::move(queue)),
      enabled_(enabled),
      trial_(std::move(trial)),
      branches_(kLeaves),
      ahead_task_([this] { draft_ahead(); }),
      propose_task_([this] {
        inner_->propose(asked_context_, *asked_budget_, *asked_noise_, *asked_tree_);
      }) {
  for (Branch& branch : branches_) branch.tree.reserve(kRoom);
  pruner_.reserve(kRoom);
}

AheadDrafter::~AheadDrafter() { end_ahead(); }

// Leaves at once the branch at hand, unless it goes on from where the truth leads and has come so
// far that to finish it is quicker than to begin anew.
void AheadDrafter::stop(std::span<const int32_t> truth) const {
  last_ = true;
  const int32_t at = current_;
  const bool agrees = at >= 0 && !truth.empty() &&
                      truth.size() == branches_[static_cast<size_t>(at)].context.size() + 1 &&
                      extends(truth, branches_[static_cast<size_t>(at)].context);
  const Clock::duration since_began(Clock::now().time_since_epoch().count() - branch_began_);
  const double done_ms = std::chrono::duration<double, std::milli>(since_began).count();
  if (!agrees || done_ms < 0.5 * fresh_ms_) enough_ = true;
}

void AheadDrafter::wait() noexcept {
  try {
    queue_->wait(ahead_task_);
  } catch (...) {
    failure_ = std::current_exception();
    listed_ = 0;
  }
  ahead_ = false;
}

void AheadDrafter::end_ahead() noexcept {
  if (!ahead_) return;
  stop({});
  wait();
}

// Brings the inner drafter from where the work ahead left it to this context.
void AheadDrafter::follow(std::span<const int32_t> context) {
  if (drafted_ == 0) return;
  if (!extends(context, branches_[static_cast<size_t>(drafted_ - 1)].context)) {
    inner_->rewind(context);
  }
  drafted_ = 0;
}

void AheadDrafter::begin(std::span<const int32_t> context) {
  end_ahead();
  listed_ = drafted_ = 0;
  proposed_ = counted_ = false;
  inner_->begin(context);
}

void AheadDrafter::rewind(std::span<const int32_t> context) {
  end_ahead();
  listed_ = drafted_ = 0;
  proposed_ = counted_ = false;
  inner_->rewind(context);
}

void AheadDrafter::observe(std::span<const int32_t> context, const Observation& truth) {
  if (ahead_) {
    stop(context);
    wait();
  }
  try {
    follow(context);
    inner_->observe(context, truth);
  } catch (...) {
    failure_ = std::current_exception();
  }
}

void AheadDrafter::finish(std::span<const int32_t> context, std::span<const uint8_t> emitted) {
  end_ahead();
  inner_->finish(context, emitted);
}

std::unique_ptr<Drafter> AheadDrafter::fork() const {
  auto inner = inner_->fork();
  if (drafted_ > 0) inner->rewind(context_);  // what was drafted ahead stays here
  auto twin = std::make_unique<AheadDrafter>(std::move(inner), queue_, enabled_, trial_);
  twin->fresh_ms_ = fresh_ms_;
  twin->fresh_nodes_ = fresh_nodes_;
  twin->hit_rate_ = hit_rate_;
  return twin;
}

double AheadDrafter::expected_ms(int32_t nodes) const {
  return inner_->expected_ms(nodes) * std::max(1.0 - hit_rate_, kLeastCost);
}

void AheadDrafter::propose(std::span<const int32_t> context, const Budget& budget,
                           const DraftNoise& noise, DraftTree& tree) {
  end_ahead();
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  follow(context);
  const bool hoped = listed_ > 0;
  const bool hit = hoped && take_ready(context, budget, tree);
  if (hoped) hit_rate_ += kMove * ((hit ? 1.0 : 0.0) - hit_rate_);
  counts_.hits += hit ? 1 : 0;
  listed_ = 0;
  if (!hit) draft_afresh(context, budget, noise, tree);
  count_step();
  proposed_ = enabled_ && noise.need.proposal == Proposal::kDeterministic && tree.drafted() > 0;
  if (!proposed_) return;
  context_.assign(context.begin(), context.end());
  budget_ = budget;
  noise_ = noise;
}

void AheadDrafter::draft_afresh(std::span<const int32_t> context, const Budget& budget,
                                const DraftNoise& noise, DraftTree& tree) {
  const Clock::time_point start = Clock::now();
  asked_context_ = context;
  asked_budget_ = &budget;
  asked_noise_ = &noise;
  asked_tree_ = &tree;
  queue_->run(propose_task_);
  if (tree.drafted() == 0) return;
  const std::chrono::duration<double, std::milli> taken = Clock::now() - start;
  move_average(fresh_ms_, taken.count());
  move_average(fresh_nodes_, tree.drafted());
}

void AheadDrafter::count_step() {
  const Clock::time_point now = Clock::now();
  if (counted_ && trial_) {
    trial_->add(was_ahead_, std::chrono::duration<double, std::milli>(now - proposed_at_).count());
  }
  proposed_at_ = now;
  counted_ = false;
}

// The tree below the target's token in the branch that begins where its path ended.
bool AheadDrafter::take_ready(std::span<const int32_t> context, const Budget& budget,
                              DraftTree& tree) {
  for (int32_t i = 0; i < listed_; ++i) {
    const Branch& branch = branches_[static_cast<size_t>(i)];
    if (context.size() != branch.context.size() + 1 || !extends(context, branch.context)) continue;
    const int32_t root = branch.tree.child_with(DraftTree::kRoot, context.back());
    if (root < 0) return false;
    node_of_.assign(static_cast<size_t>(branch.tree.size()), -1);
    node_of_[static_cast<size_t>(root)] = DraftTree::kRoot;
    for (int32_t node = root + 1; node < branch.tree.size(); ++node) {
      const int32_t parent = node_of_[static_cast<size_t>(branch.tree.parent()[node])];
      if (parent < 0 || tree.depth()[parent] >= budget.max_depth) continue;
      node_of_[static_cast<size_t>(node)] = tree.add(
          parent, branch.tree.token()[node], branch.tree.score()[node], branch.tree.source()[node]);
    }
    pruner_.keep_best(tree, std::max(budget.max_nodes, 0));
    // Less than a fresh tree is not worth a step.
    const double usual = std::min<double>(fresh_nodes_, budget.max_nodes);
    if (tree.drafted() > 0 && tree.drafted() >= usual) return true;
    tree.reset(context.back());
    return false;
  }
  return false;
}

void AheadDrafter::start_ahead(const DraftTree& verified) {
  if (!proposed_) return;
  proposed_ = false;
  if (verified.drafted() == 0) return;
  counted_ = true;
  was_ahead_ = !trial_ || trial_->next();
  if (!was_ahead_) return;
  list_leaves(verified);
  if (listed_ == 0) return;
  counts_.started += 1;
  current_ = -1;
  enough_ = false;
  last_ = false;
  ahead_ = true;
  queue_->start(ahead_task_);
}

// The leaves at which the accepted path is likeliest to end, likeliest first.
void AheadDrafter::list_leaves(const DraftTree& verified) {
  listed_ = 0;
  const std::span<const float> values = pruner_.path_values(verified);
  ends_.assign(values.begin(), values.end());
  for (int32_t node = 1; node < verified.size(); ++node) ends_[verified.parent()[node]] = 0.0F;
  for (; listed_ < kLeaves; ++listed_) {
    const auto best = std::max_element(ends_.begin(), ends_.end());
    if (*best <= 0.0F) break;
    const auto leaf = static_cast<int32_t>(best - ends_.begin());
    *best = 0.0F;
    Branch& branch = branches_[static_cast<size_t>(listed_)];
    const size_t depth = static_cast<size_t>(verified.depth()[leaf]);
    branch.context.assign(context_.begin(), context_.end());
    branch.context.resize(context_.size() + depth);
    size_t at = branch.context.size();
    for (int32_t node = leaf; node > 0; node = verified.parent()[node]) {
      branch.context[--at] = verified.token()[node];
    }
    branch.tree.reset(verified.token()[leaf]);
  }
}

void AheadDrafter::draft_ahead() {
  Budget budget = budget_;
  budget.max_nodes = 2 * budget.max_nodes + kSpare;
  budget.max_depth += 1;
  budget.tokens_per_ms = 0.0;  // the target takes longer anyway
  budget.enough = &enough_;
  for (int32_t i = 0; i < listed_; ++i) {
    branch_began_ = Clock::now().time_since_epoch().count();
    current_ = i;
    if (last_ || enough_) return;
    Branch& branch = branches_[static_cast<size_t>(i)];
    drafted_ = i + 1;
    if (i == 0) {
      inner_->observe(branch.context, {});
    } else {
      inner_->begin(branch.context);
    }
    inner_->propose(branch.context, budget, noise_, branch.tree);
  }
}

}  // namespace forerun
