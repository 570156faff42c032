#include "sched/controller.h"

#include <algorithm>

namespace forerun {
namespace {

constexpr double kScoreMargin = 0.2;  // raw scores may be this pessimistic
constexpr double kCaution = 1.03;     // the yardstick may be this wrong
constexpr double kAskingMove = 0.5;
constexpr double kForgetAsking = 0.99;  // a step: what was too dear once is tried again
constexpr double kNear = 0.95;          // of what asking none brings: little is missing

}  // namespace

Controller::Controller(Limits limits) : limits_(limits) {
  limits_.max_nodes = std::clamp(limits_.max_nodes, 0, CostModel::kMaxRows - 1);
  limits_.fixed_nodes = std::min(limits_.fixed_nodes, CostModel::kMaxRows - 1);
  reserve();
}

void Controller::reserve() {
  const size_t nodes = static_cast<size_t>(CostModel::kMaxRows);
  values_.reserve(nodes);
  ranked_.reserve(nodes);
  place_.reserve(nodes);
  unverified_.reserve(nodes);
  pruner_.reserve(CostModel::kMaxRows);
}

bool Controller::may_draft(const Experience& known, const Load& plain) const {
  return known.costs.trusted(plain.rows) && account_.open() && limits_.max_nodes > 0 &&
         known.since_plain < Experience::kPlainEvery;
}

// Plain steps that a proposal of this size takes beyond the one, of all sequences that wait for it.
double Controller::cost(const Experience& known, const Situation& now, const Offer& offer,
                        int32_t nodes) const {
  Load load = now.plain;
  load.add_rows(nodes, now.context);
  const double plain_ms = known.costs.verify_ms(now.plain);
  const double more_ms = known.costs.risked_ms(load) - plain_ms + offer.propose_ms(nodes);
  return now.plain.rows * more_ms / plain_ms;
}

Controller::Size Controller::best_size(Experience& known, const Situation& now,
                                       const Offer& offer) const {
  Size best;
  double tokens = 1.0;
  const auto profile = known.arm(offer.source).profile(limits_.max_nodes);
  const int32_t most = std::min(limits_.max_nodes, known.costs.most_rows() - now.plain.rows);
  for (int32_t n = 1; n <= most; ++n) {
    tokens += profile[static_cast<size_t>(n - 1)];
    const double spent = cost(known, now, offer, n);
    if (spent > account_.stake()) break;
    if (tokens / (1.0 + spent) > best.rate) best = {tokens / (1.0 + spent), spent, n};
  }
  return best;
}

bool Controller::pays_to_start(const Experience& known, const Situation& now, const Offer& offer,
                               const Size& size, double worth, double unasked) const {
  const double steps = now.plain.rows * offer.start_ms / known.costs.verify_ms(now.plain);
  const double usual = known.answer_tokens > 0.0 ? known.answer_tokens : now.room;
  const double likely = std::min<double>(usual, now.room);
  return steps + size.spent <= account_.starting_stake() &&
         steps < likely * (1.0 / unasked - 1.0 / worth);
}

void Controller::choose_arm(Experience& known, const Situation& now,
                            std::span<const Offer> offers) {
  const double unasked = known.arm(DraftSource::kRoot).worth(1.0);
  const Offer* best = nullptr;
  const Offer* due = nullptr;
  double best_worth = 0.0;
  for (const Offer& offer : offers) {
    const Size size = best_size(known, now, offer);
    if (size.nodes == 0) continue;
    const double worth = known.arm(offer.source).worth(size.rate);
    if (offer.start_ms > 0.0 && !pays_to_start(known, now, offer, size, worth, unasked)) continue;
    if (known.arm(offer.source).due()) due = &offer;
    if (worth > best_worth) {
      best = &offer;
      best_worth = worth;
    }
  }
  const bool stays = best != nullptr && best->source == in_use_;
  const bool pays = best_worth > unasked * (stays ? 1.0 : kHysteresis);
  in_use_ = pays ? best->source : DraftSource::kRoot;
  if (pays && known.since_unasked >= Experience::kPlainEvery / 2) return;
  const Offer* chosen = pays && (due == nullptr || best == due) ? best : due;
  if (chosen == nullptr) return;

  const Size size = best_size(known, now, *chosen);
  asked_.source = chosen->source;
  asked_.nodes = size.nodes;
  asked_.starts = chosen->start_ms > 0.0;
  if (asked_.starts) {
    const double steps = now.plain.rows * chosen->start_ms / known.costs.verify_ms(now.plain);
    account_.bring_forward(steps + size.spent - account_.stake());
  } else if (++questions_ % kStretchEvery == 0) {
    const int32_t more = std::min(size.nodes + 1 + size.nodes / 4, limits_.max_nodes);
    if (cost(known, now, *chosen, more) <= account_.stake()) asked_.nodes = more;
  }
}

Controller::Allowance Controller::allowance(Experience& known, const Situation& now,
                                            std::span<const Offer> offers) {
  asked_ = {};
  if (now.room <= 0) {
    asked_.forced = true;
    return {};
  }
  if (limits_.fixed_nodes >= 0) {
    return {limits_.fixed_nodes, now.room, 0.0F, 0.0, ~0U, limits_.fixed_nodes, now.room};
  }
  asked_.forced = !may_draft(known, now.plain);
  if (asked_.forced) return {};
  if (now.plain.rows * known.asking_ms > account_.stake() * known.costs.verify_ms(now.plain)) {
    known.asking_ms *= kForgetAsking;
    asked_.forced = true;
    return {};
  }
  choose_arm(known, now, offers);
  const double plain_ms = known.costs.verify_ms(now.plain);
  Load load = now.plain;
  load.add_rows(limits_.max_nodes, now.context);
  const double slope = (known.costs.verify_ms(load) - plain_ms) / limits_.max_nodes;
  const double rate = std::max(known.arm(asked_.source).worth(1.0), 1.0) / plain_ms;
  const uint32_t asked = asked_.nodes > 0 ? 1U << static_cast<uint32_t>(asked_.source) : 0U;
  return {limits_.max_nodes,
          now.room,
          static_cast<float>(kScoreMargin * slope * rate),
          rate,
          asked,
          asked_.nodes,
          std::min(now.room, known.arm(asked_.source).depth())};
}

void Controller::rank(Experience& known, int32_t room, const DraftTree& tree) {
  values_.resize(static_cast<size_t>(tree.size()));
  values_[DraftTree::kRoot] = 1.0F;
  for (int32_t node = 1; node < tree.size(); ++node) {
    const double likely =
        acceptance(known, tree.source()[node], tree.score()[node], tree.depth()[node]);
    values_[node] = tree.depth()[node] > room
                        ? 0.0F
                        : values_[tree.parent()[node]] * static_cast<float>(likely);
  }
  ranked_.clear();
  for (const int32_t node : pruner_.order(tree, values_)) ranked_.push_back(values_[node]);
  if (asked_.source != DraftSource::kRoot) {
    known.arm(asked_.source).learn(ranked_, asked_.nodes);
  }
}

void Controller::keep(DraftTree& tree, int32_t nodes) {
  const std::span<const int32_t> best = pruner_.order(tree, values_);
  place_.assign(static_cast<size_t>(tree.size()), -1);
  place_[DraftTree::kRoot] = 0;
  for (int32_t i = 0; i < nodes; ++i) place_[best[i]] = 0;
  int32_t kept = 0;
  for (int32_t& place : place_) place = place < 0 ? -1 : kept++;
  unverified_.clear();
  for (int32_t node = 1; node < tree.size(); ++node) {
    const int32_t parent = place_[tree.parent()[node]];
    if (place_[node] >= 0 || parent < 0) continue;
    unverified_.push_back(
        {parent, tree.token()[node], tree.depth()[node], tree.source()[node], tree.score()[node]});
  }
  pruner_.keep_best(tree, values_, nodes);
}

void Controller::learn_acceptance(Experience& known, const DraftTree& tree,
                                  std::span<const int32_t> path, std::span<const int32_t> emitted) {
  const auto next_after = [&](int32_t node) {  // -1 off the path
    const auto at = std::lower_bound(path.begin(), path.end(), node);
    return at != path.end() && *at == node ? emitted[static_cast<size_t>(at - path.begin())] : -1;
  };
  for (int32_t node = 1; node < tree.size(); ++node) {
    const int32_t next = next_after(tree.parent()[node]);
    if (next < 0) continue;
    local_.add(known.acceptance, tree.source()[node], tree.score()[node], tree.depth()[node],
               tree.token()[node] == next);
  }
  for (const Unverified& guess : unverified_) {
    const int32_t next = next_after(guess.parent);
    if (next < 0) continue;
    local_.add(known.acceptance, guess.source, guess.score, guess.depth, guess.token == next);
  }
  unverified_.clear();
}

void Controller::learn_arms(Experience& known, double tokens, double spent) {
  for (int source = 1; source < kDraftSources; ++source) {
    if (source != static_cast<int>(asked_.source)) known.arms[static_cast<size_t>(source)].wait();
  }
  if (asked_.forced) return;
  DraftArm& arm = known.arm(asked_.source);
  if (!asked_.starts) arm.count(tokens, spent);
  const bool unasked = asked_.source == DraftSource::kRoot;
  known.since_unasked = unasked ? 0 : known.since_unasked + 1;
  if (unasked) return;
  const double other = known.arm(DraftSource::kRoot).worth(1.0);
  arm.asked(tokens > spent * other, arm.worth(1.0) > kNear * other);
}

void Controller::observe(Experience& known, const DraftTree& tree, std::span<const int32_t> path,
                         std::span<const int32_t> emitted, const Spent& spent) {
  learn_acceptance(known, tree, path, emitted);
  if (!known.costs.measured() || limits_.fixed_nodes >= 0) return;
  const double plain_ms = known.costs.verify_ms(spent.plain);
  const double verify_ms = kCaution * known.costs.believable_ms(spent.load, spent.verify_ms);
  const double draft_ms = spent.draft_ms;
  if (asked_.source == DraftSource::kRoot && !asked_.forced) {
    known.asking_ms += kAskingMove * (draft_ms - known.asking_ms);
  }
  const double of_nodes_ms = tree.drafted() > 0 ? spent.share * (verify_ms - plain_ms) : 0.0;
  const double more_ms = draft_ms + spent.learn_ms + of_nodes_ms;
  const double steps = 1.0 + spent.plain.rows * more_ms / plain_ms;
  account_.settle(static_cast<int32_t>(path.size()), steps);
  learn_arms(known, static_cast<double>(path.size()), steps);
}

void TreeFitter::fit(Experience& known, const Load& plain, std::span<const Entry> entries,
                     int32_t max_nodes) {
  const double plain_ms = known.costs.verify_ms(plain);
  double draft_ms = 0.0, stakes = 0.0;
  sequences_.clear();
  for (const Entry& entry : entries) {
    Controller& controller = *entry.controller;
    const int32_t fixed = controller.limits_.fixed_nodes;
    controller.rank(known, entry.room, *entry.tree);
    int32_t most = std::min(entry.tree->drafted(), controller.limits_.max_nodes);
    if (entry.tree->sampled()) {
      most = 0;  // its size was decided before its nodes were drawn
    } else if (fixed >= 0) {
      controller.pruner_.keep_best(*entry.tree, fixed);
      most = 0;
    } else if (!controller.may_draft(known, plain)) {
      most = 0;
    }
    const double stake = controller.account_.stake();
    if (most > 0) stakes += stake;
    const auto affordable = [&](int32_t nodes) {
      Load load = plain;
      load.add_rows(nodes, entry.context);
      const double more_ms = known.costs.risked_ms(load) - plain_ms + entry.draft_ms;
      return plain.rows * more_ms <= stake * plain_ms;
    };
    while (most > 0 && !affordable(most)) --most;
    sequences_.push_back({controller.ranked_, entry.context, most});
    draft_ms += entry.draft_ms;
  }
  const double limit_ms = plain_ms * (1.0 + stakes / plain.rows);
  const int32_t most = std::min(max_nodes, known.costs.most_rows() - plain.rows);
  chooser_.choose(known.costs, {plain, draft_ms, limit_ms, most}, sequences_);
  for (size_t i = 0; i < entries.size(); ++i) {
    Controller& controller = *entries[i].controller;
    if (controller.limits_.fixed_nodes < 0 && !entries[i].tree->sampled()) {
      controller.keep(*entries[i].tree, chooser_.counts()[i]);
    }
  }
}

}  // namespace forerun
