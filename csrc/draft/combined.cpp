#include "draft/combined.h"

#include <algorithm>

#include "base/error.h"

namespace forerun {
namespace {

constexpr int32_t kFirstTries = 4;  // before an average is believed
constexpr double kMove = 0.1;
constexpr int32_t kRoom = 256;  // nodes of a fused tree that need no allocation

// Accepted tokens that a tree promises, by powers of two: < 0.5, < 1, < 2, < 4, < 8, more.
size_t promise_of(std::span<const float> values, size_t classes) {
  double promised = 0.0;
  for (size_t node = 1; node < values.size(); ++node) promised += static_cast<double>(values[node]);
  size_t found = 0;
  for (double edge = 0.5; promised >= edge && found + 1 < classes; edge *= 2.0) ++found;
  return found;
}

bool of_a_model(const DraftTree& tree) {
  if (tree.drafted() == 0) return false;
  const DraftSource source = tree.source()[1];
  return source == DraftSource::kModel || source == DraftSource::kEarlyExit ||
         source == DraftSource::kHead;
}

}  // namespace

CombinedDrafter::CombinedDrafter(std::vector<std::unique_ptr<Drafter>> drafters)
    : drafters_(std::move(drafters)), cascade_(drafters_.size()) {
  if (drafters_.empty()) {
    throw Error(ErrorKind::kBadArgument, "combined drafter: no drafters were given");
  }
  for (Asking& asking : cascade_) asking.without.reserve(kRoom);
  part_.reserve(kRoom);
  limited_.reserve(kRoom);
  pruner_.reserve(kRoom);
}

std::string CombinedDrafter::name() const {
  std::string joined;
  for (const auto& drafter : drafters_) {
    if (!joined.empty()) joined += '+';
    joined += drafter->name();
  }
  return joined;
}

void CombinedDrafter::begin(std::span<const int32_t> context) {
  for (const auto& drafter : drafters_) drafter->begin(context);
}

bool CombinedDrafter::pays(size_t drafter, const DraftTree& tree, const Budget& budget) {
  Asking& asking = cascade_[drafter];
  const double ms = drafters_[drafter]->expected_ms(budget.max_nodes);
  asking.asked = false;
  if (ms <= 0.0 || budget.tokens_per_ms <= 0.0) return true;
  asking.promise = promise_of(pruner_.path_values(tree), kPromises);
  const bool ask = asking.tries[asking.promise] < kFirstTries ||
                   asking.gain[asking.promise] >= ms * budget.tokens_per_ms ||
                   ++asking.skipped >= kAskAgain;
  asking.share += kMove * ((ask ? 1.0 : 0.0) - asking.share);
  if (!ask) return false;
  asking.skipped = 0;
  asking.asked = true;
  asking.without = tree;
  return true;
}

void CombinedDrafter::propose(std::span<const int32_t> context, const Budget& budget,
                              const DraftNoise& noise, DraftTree& tree) {
  for (size_t i = 0; i < drafters_.size(); ++i) {
    Drafter& drafter = *drafters_[i];
    Budget share = budget;
    if (drafter.expected_ms(1) > 0.0) {
      const bool asked = (budget.asked >> static_cast<uint32_t>(drafter.source()) & 1U) != 0;
      if (!asked) continue;
      share.max_nodes = std::min(budget.max_nodes, budget.asked_nodes);
      share.max_depth = std::min(budget.max_depth, budget.asked_depth);
    }
    if (!pays(i, tree, share)) continue;
    part_.reset(tree.token()[DraftTree::kRoot]);
    drafter.propose(context, share, noise, part_);
    if (of_a_model(part_)) limit_by(part_, tree);
    pruner_.fuse(part_, tree);
  }
  pruner_.keep_best(tree, std::max(budget.max_nodes, 0));
}

// Rebuilds `tree` with the scores of branches that leave the model's tree cut.
void CombinedDrafter::limit_by(const DraftTree& model, DraftTree& tree) {
  left_over_.assign(static_cast<size_t>(model.size()), 1.0F);
  for (int32_t node = 1; node < model.size(); ++node) {
    float& left = left_over_[model.parent()[node]];
    left = std::max(left - model.score()[node], 0.0F);
  }
  in_model_.assign(static_cast<size_t>(tree.size()), -1);
  in_model_[DraftTree::kRoot] = DraftTree::kRoot;
  limited_.reset(tree.token()[DraftTree::kRoot]);
  for (int32_t node = 1; node < tree.size(); ++node) {
    const int32_t parent = in_model_[tree.parent()[node]];
    float score = tree.score()[node];
    if (parent >= 0) {
      in_model_[node] = model.child_with(parent, tree.token()[node]);
      if (in_model_[node] < 0) score = std::min(score, left_over_[parent]);
    }
    limited_.add(tree.parent()[node], tree.token()[node], score, tree.source()[node]);
  }
  std::swap(tree, limited_);
}

void CombinedDrafter::learn(Asking& asking, const Observation& truth) const {
  if (!asking.asked) return;
  const DraftTree& with = *truth.tree;
  int32_t node = DraftTree::kRoot;
  size_t reached = 0;
  for (; reached + 1 < truth.path.size(); ++reached) {
    node = asking.without.child_with(node, with.token()[truth.path[reached + 1]]);
    if (node < 0) break;
  }
  const double more = static_cast<double>(truth.path.size() - 1 - reached);
  double& gain = asking.gain[asking.promise];
  gain += std::max(kMove, 1.0 / ++asking.tries[asking.promise]) * (more - gain);
  asking.asked = false;
}

void CombinedDrafter::start_ahead(const DraftTree& verified) {
  for (const auto& drafter : drafters_) drafter->start_ahead(verified);
}

void CombinedDrafter::end_ahead() noexcept {
  for (const auto& drafter : drafters_) drafter->end_ahead();
}

void CombinedDrafter::observe(std::span<const int32_t> context, const Observation& truth) {
  for (Asking& asking : cascade_) learn(asking, truth);
  for (const auto& drafter : drafters_) drafter->observe(context, truth);
}

void CombinedDrafter::rewind(std::span<const int32_t> context) {
  for (Asking& asking : cascade_) asking.asked = false;
  for (const auto& drafter : drafters_) drafter->rewind(context);
}

std::unique_ptr<Drafter> CombinedDrafter::fork() const {
  std::vector<std::unique_ptr<Drafter>> twins;
  for (const auto& drafter : drafters_) twins.push_back(drafter->fork());
  auto copy = std::make_unique<CombinedDrafter>(std::move(twins));
  copy->cascade_ = cascade_;
  for (Asking& asking : copy->cascade_) asking.asked = false;
  return copy;
}

void CombinedDrafter::finish(std::span<const int32_t> context, std::span<const uint8_t> emitted) {
  for (const auto& drafter : drafters_) drafter->finish(context, emitted);
}

void CombinedDrafter::borrow(KvCache& cache) {
  for (const auto& drafter : drafters_) drafter->borrow(cache);
}

int32_t CombinedDrafter::wanted_topk() const {
  int32_t k = 0;
  for (const auto& drafter : drafters_) k = std::max(k, drafter->wanted_topk());
  return k;
}

std::span<const int32_t> CombinedDrafter::wanted_taps() const {
  for (const auto& drafter : drafters_) {
    if (!drafter->wanted_taps().empty()) return drafter->wanted_taps();
  }
  return {};
}

void CombinedDrafter::read(std::span<const int32_t> context, int32_t first,
                           const HiddenRows& hidden) {
  for (const auto& drafter : drafters_) drafter->read(context, first, hidden);
}

double CombinedDrafter::expected_ms(int32_t nodes) const {
  double sum = 0.0;
  for (size_t i = 0; i < drafters_.size(); ++i) {
    sum += cascade_[i].share * drafters_[i]->expected_ms(nodes);
  }
  return sum;
}

}  // namespace forerun
