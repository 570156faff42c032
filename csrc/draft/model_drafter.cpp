#include "draft/model_drafter.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <numeric>

#include "base/dice.h"
#include "base/math.h"
#include "base/random.h"

namespace forerun {
namespace {

constexpr int32_t kChunkRows = 128;   // of the prompt at a time
constexpr int32_t kCatchUpRows = 16;  // more are a prefill, not a cost of drafting
constexpr double kTimingMove = 0.1;
constexpr size_t kRivals = 8;  // perturbed sums among which the winner is expected

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

void move_average(double& average, double value) {
  average = average == 0.0 ? value : average + kTimingMove * (value - average);
}

}  // namespace

ModelDrafter::ModelDrafter(std::shared_ptr<const Model> model, std::unique_ptr<TreePolicy> policy,
                           int32_t context, Costs costs)
    : model_(std::move(model)),
      policy_(std::move(policy)),
      cache_(model_->backend(), model_->kv_layout(), context),
      candidates_(std::min(kCandidates, model_->config().vocab)),
      costs_(costs) {
  const int32_t nodes = 1 + kMaxBeam * kMaxLevels;
  grown_.reserve(nodes);
  ids_.reserve(static_cast<size_t>(nodes * candidates_));
  logits_.reserve(ids_.capacity());
}

ModelDrafter::ModelDrafter(const ModelDrafter& other)
    : Drafter(other),
      ChildSource(other),
      model_(other.model_),
      policy_(other.policy_->clone()),
      cache_(other.cache_.fork()),
      tokens_(other.tokens_),
      candidates_(other.candidates_),
      costs_(other.costs_),
      levels_per_node_(other.levels_per_node_) {}

std::unique_ptr<Drafter> ModelDrafter::fork() const {
  return std::unique_ptr<Drafter>(new ModelDrafter(*this));
}

// The rows of an equal prefix are the same whoever wrote them, so they stay.
void ModelDrafter::begin(std::span<const int32_t> context) { keep_common_prefix(context); }

void ModelDrafter::rewind(std::span<const int32_t> context) { keep_common_prefix(context); }

void ModelDrafter::keep_common_prefix(std::span<const int32_t> context) {
  rows_in_scratch_ = false;
  const size_t most = std::min(tokens_.size(), context.empty() ? 0 : context.size() - 1);
  const auto differs =
      std::mismatch(tokens_.begin(), tokens_.begin() + static_cast<int64_t>(most), context.begin());
  tokens_.erase(differs.first, tokens_.end());
  cache_.rewind(static_cast<int32_t>(tokens_.size()));
}

void ModelDrafter::observe(std::span<const int32_t> context, const Observation& truth) {
  keep_true_guesses(context);
  if (truth.tree != nullptr) policy_->observe(truth);
}

// Commits the rows of the root and of the guesses that are now part of the context before its new
// root.
void ModelDrafter::keep_true_guesses(std::span<const int32_t> context) {
  const size_t first = tokens_.size();
  if (rows_in_scratch_ && first + 1 < context.size() &&
      grown_.token()[DraftTree::kRoot] == context[first]) {
    path_.assign(1, DraftTree::kRoot);
    for (size_t at = first + 1; at + 1 < context.size(); ++at) {
      const int32_t child = grown_.child_with(path_.back(), context[at]);
      if (child < 0) break;
      path_.push_back(child);
    }
    cache_.commit(path_);
    for (const int32_t node : path_) tokens_.push_back(grown_.token()[node]);
  }
  rows_in_scratch_ = false;
}

void ModelDrafter::propose(std::span<const int32_t> context, const Budget& budget,
                           const DraftNoise& noise, DraftTree& tree) {
  const int32_t room = cache_.capacity() - static_cast<int32_t>(context.size());
  if (context.empty() || room <= 0 || budget.max_nodes <= 0 || budget.max_depth <= 0) return;
  if (!workspace_) {
    workspace_ =
        std::make_unique<Workspace>(model_->backend(), model_->config(), kChunkRows, kMaxBeam);
  }
  keep_common_prefix(context);
  context_ = context;
  noise_ = noise;
  const int32_t missing = static_cast<int32_t>(context.size() - tokens_.size());
  Budget limited = budget;
  limited.max_depth = std::min(budget.max_depth, room);

  const Clock::time_point start = Clock::now();
  if (const SlotRules* slots = policy_->slots(noise.need)) {
    StepDice dice(noise.seed, static_cast<int64_t>(context.size()) + noise.unseen,
                  NoiseStream::kDraft, NoiseStream::kDraft);
    const SlotGrower::Task task{limited, kMaxLevels, noise.need.proposal, DraftSource::kModel,
                                &policy_->stop()};
    slot_grower_.grow(*slots, *this, task, dice, tree);
  } else if (noise.need.proposal == Proposal::kDeterministic) {
    grower_.grow(*policy_, *this, limited, kMaxLevels, DraftSource::kModel, tree);
  }
  const int32_t levels = grown_.max_depth() + 1;
  if (missing > kCatchUpRows) {
    const double read_ms = milliseconds_since(start) - levels * costs_.level;
    if (read_ms > 0.0) move_average(costs_.prompt_row, read_ms / missing);
  } else if (tree.drafted() > 0) {
    move_average(costs_.level, milliseconds_since(start) / levels);
    levels_per_node_ +=
        kTimingMove * (static_cast<double>(levels) / budget.max_nodes - levels_per_node_);
  }
}

double ModelDrafter::expected_ms(int32_t nodes) const {
  const double levels = std::clamp(levels_per_node_ * nodes, 1.0, double{kMaxLevels});
  return nodes > 0 ? costs_.level * levels : 0.0;
}

double ModelDrafter::start_ms(int32_t context) const {
  const int32_t missing = context - static_cast<int32_t>(tokens_.size());
  return missing > kCatchUpRows ? missing * costs_.prompt_row : 0.0;
}

bool ModelDrafter::draws(const DrawNeed& need) const {
  return need.proposal == Proposal::kDeterministic || policy_->slots(need) != nullptr;
}

bool ModelDrafter::pays(double reach, const Budget& budget) const {
  return reach >= budget.tokens_per_ms * costs_.level;
}

void ModelDrafter::open(std::span<const Guess> pool, std::span<const int32_t> frontier) {
  if (frontier.size() == 1 && frontier[0] == 0) {
    forward_context(context_);
  } else {
    forward_level(pool, frontier);
  }
}

void ModelDrafter::forward_context(std::span<const int32_t> context) {
  for (size_t done = tokens_.size(); done < context.size();) {
    const size_t rows = std::min(context.size() - done, size_t{kChunkRows});
    const bool last = done + rows == context.size();
    batch_.clear();
    batch_.add_causal(cache_, context.subspan(done, rows), last ? 1 : 0);
    const Forward out = model_->forward(batch_, *workspace_);
    // The root's row stays scratch: it is node 0 of the levels that follow.
    const size_t kept = last ? rows - 1 : rows;
    cache_.commit_rows(static_cast<int32_t>(kept));
    tokens_.insert(tokens_.end(), context.begin() + static_cast<int64_t>(done),
                   context.begin() + static_cast<int64_t>(done + kept));
    done += rows;
    if (last) {
      grown_.reset(context.back());
      rows_in_scratch_ = true;
      grown_of_.assign(1, DraftTree::kRoot);
      read_candidates(out, 0, 1);
    }
  }
}

void ModelDrafter::forward_level(std::span<const Guess> pool, std::span<const int32_t> frontier) {
  const int32_t first = grown_.size();
  grown_of_.resize(pool.size(), -1);
  for (const int32_t node : frontier) {
    const Guess& guess = pool[node];
    grown_of_[node] =
        grown_.add(grown_of_[guess.parent], guess.token, guess.score, DraftSource::kModel);
  }
  batch_.clear();
  batch_.add_tree(cache_, grown_, first);
  read_candidates(model_->forward(batch_, *workspace_), first, grown_.size() - first);
}

void ModelDrafter::read_candidates(const Forward& out, int32_t first, int32_t rows) {
  const size_t begin = static_cast<size_t>(first) * static_cast<size_t>(candidates_);
  const size_t count = static_cast<size_t>(rows) * static_cast<size_t>(candidates_);
  ids_.resize(begin + count);
  logits_.resize(begin + count);
  model_->backend().top_k(out.logits.first_rows(rows), candidates_,
                          std::span(ids_).subspan(begin, count),
                          std::span(logits_).subspan(begin, count));
}

void ModelDrafter::law(std::span<const Guess> pool, int32_t node, TokenLaw& q) {
  (void)pool;
  const size_t count = static_cast<size_t>(candidates_);
  const size_t row = static_cast<size_t>(grown_of_[node]) * count;
  law_.make(std::span(ids_).subspan(row, count), std::span(logits_).subspan(row, count),
            noise_.temperature > 0.0F ? noise_.temperature : 1.0F, noise_.sampling, q);
}

void ModelDrafter::children(std::span<const Guess> pool, int32_t node, int32_t width,
                            std::vector<Guess>& children) {
  const size_t row = static_cast<size_t>(grown_of_[node]) * static_cast<size_t>(candidates_);
  const std::span<const int32_t> ids =
      std::span(ids_).subspan(row, static_cast<size_t>(candidates_));
  const std::span<const float> logits = std::span(logits_).subspan(row, ids.size());
  const bool warm = noise_.temperature > 0.0F, noisy = warm && policy_->shares_noise();
  const int64_t position = static_cast<int64_t>(context_.size()) + noise_.unseen + pool[node].depth;
  sums_.resize(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    const float relative = logits[i] - logits[0];
    sums_[i] = relative > -std::numeric_limits<float>::infinity()
                   ? relative
                   : std::numeric_limits<float>::lowest();
    if (warm) sums_[i] /= noise_.temperature;
    if (noisy) sums_[i] += gumbel_noise(noise_.seed, position, ids[i]);
  }
  order_.resize(ids.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::sort(order_.begin(), order_.end(), [this](int32_t a, int32_t b) {
    return sums_[a] != sums_[b] ? sums_[a] > sums_[b] : a < b;
  });
  // With noise the leading sums alone say who wins; without, q is a share of all the mass.
  const size_t shared = noisy ? std::min(ids.size(), kRivals) : ids.size();
  const float best = sums_[order_[0]];
  double total = 0.0;
  for (size_t i = 0; i < shared; ++i) total += exact_exp(sums_[order_[i]] - best);
  for (size_t i = 0; i < std::min(ids.size(), static_cast<size_t>(width)); ++i) {
    const double q = exact_exp(sums_[order_[i]] - best) / total;
    children.push_back({.token = ids[order_[i]], .score = static_cast<float>(q)});
  }
}

}  // namespace forerun
