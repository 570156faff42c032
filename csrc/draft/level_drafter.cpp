#include "draft/level_drafter.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <numeric>

#include "base/dice.h"
#include "base/math.h"
#include "base/random.h"

namespace forerun {
namespace {

constexpr size_t kRivals = 8;  // perturbed sums among which the winner is expected

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

}  // namespace

LevelDrafter::LevelDrafter(DraftSource label, std::unique_ptr<TreePolicy> policy,
                           std::shared_ptr<LevelCosts> costs)
    : label_(label),
      policy_(std::move(policy)),
      costs_(costs ? std::move(costs) : std::make_shared<LevelCosts>()) {
  grown_.reserve(kMaxNodes);
  ids_.reserve(size_t{kMaxNodes} * kCandidates);
  logits_.reserve(ids_.capacity());
  level_.reserve(kMaxBeam);
  top_ids_.reserve(size_t{kMaxBeam} * kCandidates);
  top_logits_.reserve(top_ids_.capacity());
}

LevelDrafter::LevelDrafter(const LevelDrafter& other)
    : Drafter(other),
      ChildSource(other),
      label_(other.label_),
      policy_(other.policy_->clone()),
      costs_(other.costs_) {}

void LevelDrafter::propose(std::span<const int32_t> context, const Budget& budget,
                           const DraftNoise& noise, DraftTree& tree) {
  if (context.empty() || budget.max_nodes <= 0 || budget.max_depth <= 0) return;
  const int32_t room = this->room(context);
  if (room <= 0) return;
  context_ = context;
  noise_ = noise;
  const int32_t read = unread(static_cast<int32_t>(context.size()));
  Budget limited = budget;
  limited.max_depth = std::min(budget.max_depth, room);
  const Clock::time_point start = Clock::now();
  grow(limited, tree);
  if (tree.drafted() == 0) return;
  costs_->learn(milliseconds_since(start), read, grown_.max_depth() + 1, budget.max_nodes);
}

void LevelDrafter::grow(const Budget& budget, DraftTree& tree) {
  grown_.reset(context_.back());
  grown_of_.assign(1, DraftTree::kRoot);
  if (const SlotRules* slots = policy_->slots(noise_.need)) {
    StepDice dice(noise_.seed, static_cast<int64_t>(context_.size()) + noise_.unseen,
                  NoiseStream::kDraft, NoiseStream::kDraft);
    const SlotGrower::Task task{budget, kMaxLevels, noise_.need.proposal, label_, &policy_->stop()};
    slot_grower_.grow(*slots, *this, task, dice, tree);
  } else if (noise_.need.proposal == Proposal::kDeterministic) {
    grower_.grow(*policy_, *this, budget, kMaxLevels, label_, tree);
  }
}

void LevelDrafter::tell_policy(const Observation& truth) {
  if (truth.tree == nullptr) return;
  policy_->observe(truth, label_);
  policy_->stop().observe(truth, label_);
}

bool LevelDrafter::draws(const DrawNeed& need) const {
  return need.proposal == Proposal::kDeterministic || policy_->slots(need) != nullptr;
}

bool LevelDrafter::pays(double reach, const Budget& budget) const {
  return reach >= budget.tokens_per_ms * costs_->level_ms();
}

void LevelDrafter::open(std::span<const Guess> pool, std::span<const int32_t> frontier) {
  if (frontier.size() == 1 && frontier[0] == 0) return open_root(context_);
  level_.clear();
  grown_of_.resize(pool.size(), -1);
  for (const int32_t node : frontier) {
    const Guess& guess = pool[node];
    grown_of_[node] = grown_.add(grown_of_[guess.parent], guess.token, guess.score, label_);
    level_.push_back(grown_of_[node]);
  }
  open_level(level_);
}

void LevelDrafter::keep_laws(Backend& backend, const Tensor& logits, std::span<const int32_t> laws,
                             std::span<const int32_t> tokens) {
  candidates_ = static_cast<size_t>(std::min(kCandidates, logits.cols));
  top_ids_.resize(laws.size() * candidates_);
  top_logits_.resize(top_ids_.size());
  backend.top_k(logits, static_cast<int32_t>(candidates_), top_ids_, top_logits_);
  if (!tokens.empty()) {
    for (int32_t& id : top_ids_) id = tokens[static_cast<size_t>(id)];
  }
  const auto last = static_cast<size_t>(*std::max_element(laws.begin(), laws.end()));
  const size_t all = (last + 1) * candidates_;
  if (ids_.size() < all) {
    ids_.resize(all);
    logits_.resize(all);
  }
  for (size_t i = 0; i < laws.size(); ++i) {
    const auto from = static_cast<int64_t>(i * candidates_);
    const int64_t to = int64_t{laws[i]} * static_cast<int64_t>(candidates_);
    std::copy_n(top_ids_.begin() + from, candidates_, ids_.begin() + to);
    std::copy_n(top_logits_.begin() + from, candidates_, logits_.begin() + to);
  }
}

std::span<const int32_t> LevelDrafter::ids(int32_t row) const {
  return std::span(ids_).subspan(static_cast<size_t>(row) * candidates_, candidates_);
}

std::span<const float> LevelDrafter::logits(int32_t row) const {
  return std::span(logits_).subspan(static_cast<size_t>(row) * candidates_, candidates_);
}

double LevelDrafter::confidence(int32_t node) const {
  const std::span<const float> row = logits(law_of(node));
  double total = 0.0;
  for (const float logit : row) total += exact_exp(logit - row[0]);
  return 1.0 / total;
}

void LevelDrafter::law(std::span<const Guess> pool, int32_t node, TokenLaw& q) {
  (void)pool;
  const int32_t row = law_of(grown_of_[node]);
  law_.make(ids(row), logits(row), noise_.temperature > 0.0F ? noise_.temperature : 1.0F,
            noise_.sampling, q);
}

// Candidates of the row by what decides, the target's noise included where the policy shares it.
void LevelDrafter::order_candidates(int32_t row, int64_t position) {
  const std::span<const float> relative = logits(row);
  const bool warm = noise_.temperature > 0.0F, noisy = warm && policy_->shares_noise();
  sums_.resize(candidates_);
  for (size_t i = 0; i < candidates_; ++i) {
    const float logit = relative[i] - relative[0];
    sums_[i] = logit > -std::numeric_limits<float>::infinity()
                   ? logit
                   : std::numeric_limits<float>::lowest();
    if (warm) sums_[i] /= noise_.temperature;
    if (noisy) sums_[i] += gumbel_noise(noise_.seed, position, ids(row)[i]);
  }
  order_.resize(candidates_);
  std::iota(order_.begin(), order_.end(), 0);
  std::sort(order_.begin(), order_.end(), [this](int32_t a, int32_t b) {
    return sums_[a] != sums_[b] ? sums_[a] > sums_[b] : a < b;
  });
}

void LevelDrafter::children(std::span<const Guess> pool, int32_t node, int32_t width,
                            std::vector<Guess>& children) {
  const int32_t row = law_of(grown_of_[node]);
  order_candidates(row, static_cast<int64_t>(context_.size()) + noise_.unseen + pool[node].depth);
  // With noise the leading sums alone say who wins; without, q is a share of all the mass.
  const bool noisy = noise_.temperature > 0.0F && policy_->shares_noise();
  const size_t shared = noisy ? std::min(candidates_, kRivals) : candidates_;
  const float best = sums_[order_[0]];
  double total = 0.0;
  for (size_t i = 0; i < shared; ++i) total += exact_exp(sums_[order_[i]] - best);
  for (size_t i = 0; i < std::min(candidates_, static_cast<size_t>(width)); ++i) {
    const double q = exact_exp(sums_[order_[i]] - best) / total;
    children.push_back({.token = ids(row)[order_[i]], .score = static_cast<float>(q)});
  }
}

}  // namespace forerun
