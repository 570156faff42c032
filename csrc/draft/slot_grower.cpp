#include "draft/slot_grower.h"

#include <algorithm>
#include <numeric>

#include "base/math.h"

namespace forerun {

void SlotGrower::grow(const SlotRules& rules, ChildSource& source, const Task& task, Dice& dice,
                      DraftTree& tree) {
  task_ = &task;
  tree_ = &tree;
  left_ = task.budget.max_nodes;
  levels_ = 0;
  open_ = 0;
  pool_.assign(1, Guess{});
  pool_[0].token = tree.token()[DraftTree::kRoot];
  node_of_.assign(1, DraftTree::kRoot);
  law_of_.assign(1, -1);
  slots_.clear();
  at_depth_.assign(static_cast<size_t>(std::max(task.budget.max_depth, 0)) + 2, 0);
  Slot root;
  root.value = rules.root();
  waiting_.assign(1, {0, root});
  if (task.budget.max_depth <= 0) return;

  while (left_ > 0) {
    const int32_t best = best_slot(rules);
    const bool ahead = best >= 0 && rules.best_first() && !waiting_.empty() &&
                       waiting_.front().first.value > slots_[static_cast<size_t>(best)].value;
    if (best < 0 || ahead) {
      if (look(rules, source)) continue;
      if (best < 0) return;
    }
    draw(rules, static_cast<size_t>(best), dice);
  }
}

// Opens the best of the waiting nodes; the others wait on, or are forgotten where a level is a
// level.
bool SlotGrower::look(const SlotRules& rules, ChildSource& source) {
  double reach = 0.0;
  for (const Waiting& waiting : waiting_) reach += pool_[waiting.node].value;
  if (waiting_.empty() || levels_ == task_->max_levels ||
      (levels_ > 0 && !source.pays(reach, task_->budget))) {
    waiting_.clear();
    return false;
  }
  const size_t most = std::min(waiting_.size(), static_cast<size_t>(source.most_nodes()));
  frontier_.clear();
  for (size_t i = 0; i < most; ++i) frontier_.push_back(waiting_[i].node);
  std::sort(frontier_.begin(), frontier_.end());
  source.open(pool_, frontier_);
  ++levels_;
  for (size_t i = 0; i < most; ++i) {
    const Waiting& waiting = waiting_[i];
    if (laws_.size() == open_) {
      laws_.emplace_back();
      left_of_.emplace_back();
    }
    TokenLaw& law = laws_[open_];
    source.law(pool_, waiting.node, law);
    pool_[waiting.node].survival = survival(source, pool_, waiting.node);
    if (task_->stop != nullptr && task_->stop->before_draw(pool_[waiting.node], law)) continue;
    law_of_[waiting.node] = static_cast<int32_t>(open_);
    left_of_[open_++] = law.probability;
    slots_.push_back(waiting.first);
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<int64_t>(most));
  if (!rules.best_first()) waiting_.clear();
  return true;
}

int32_t SlotGrower::room_below(const SlotRules& rules, const Slot& slot) const {
  const int32_t depth = slot.depth + 1;
  return std::min(
      left_, rules.most_at_depth(task_->budget, depth) - at_depth_[static_cast<size_t>(depth)]);
}

int32_t SlotGrower::best_slot(const SlotRules& rules) {
  const double cut = rules.cut(task_->budget);
  std::erase_if(slots_, [&](const Slot& slot) {
    return slot.value < cut || slot.value == Slot::kNever || !(slot.left > 0.0) ||
           room_below(rules, slot) <= 0;
  });
  int32_t best = -1;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (best < 0 || slots_[i].value > slots_[static_cast<size_t>(best)].value) {
      best = static_cast<int32_t>(i);
    }
  }
  return best;
}

void SlotGrower::draw(const SlotRules& rules, size_t index, Dice& dice) {
  const Slot slot = slots_[index];
  const std::vector<double>& left = left_of_[static_cast<size_t>(law_of_[slot.node])];
  const double best = *std::max_element(left.begin(), left.end()) / slot.left;
  // Known before the token is drawn: what the node can be worth.
  if (pool_[slot.node].value * best < task_->budget.min_value) {
    slots_.erase(slots_.begin() + static_cast<int64_t>(index));
    return;
  }
  if (task_->proposal == Proposal::kWithoutReplacement) {
    draw_next(rules, index, dice);
    return;
  }
  slots_.erase(slots_.begin() + static_cast<int64_t>(index));
  if (task_->proposal == Proposal::kIndependent) {
    draw_all(rules, slot, dice);
  } else {
    draw_top_and_sample(rules, slot, dice);
  }
}

void SlotGrower::make_law(int32_t node, const TokenLaw& law) {
  tree_->set_law(node_of_[node], task_->proposal, law.tokens, law.probability);
}

void SlotGrower::draw_next(const SlotRules& rules, size_t index, Dice& dice) {
  Slot& slot = slots_[index];
  const auto open = static_cast<size_t>(law_of_[slot.node]);
  if (slot.rank == 0) make_law(slot.node, laws_[open]);
  std::vector<double>& left = left_of_[open];
  const size_t token = dice.pick(left);
  const double share = left[token] / slot.left;
  add(rules, slot, token, share, true);
  left[token] = 0.0;
  slot.rank += 1;
  slot.left = std::accumulate(left.begin(), left.end(), 0.0);
  if (slot.left > 0.0) slot.value = rules.beside(slot, share, dice);
}

// Their number is fixed before the first, whatever repeats.
void SlotGrower::draw_all(const SlotRules& rules, const Slot& first, Dice& dice) {
  const int32_t count = std::min(rules.draws(first, task_->budget), room_below(rules, first));
  const TokenLaw& law = laws_[static_cast<size_t>(law_of_[first.node])];
  make_law(first.node, law);
  Slot slot = first;
  for (slot.rank = 0; slot.rank < count; ++slot.rank) {
    if (slot.rank > 0) slot.value = rules.beside(slot, 0.0, dice);
    const size_t token = dice.pick(law.probability);
    add(rules, slot, token, law.probability[token], true);
  }
}

void SlotGrower::draw_top_and_sample(const SlotRules& rules, const Slot& first, Dice& dice) {
  const int32_t count = std::min(rules.draws(first, task_->budget), room_below(rules, first));
  const auto open = static_cast<size_t>(law_of_[first.node]);
  std::vector<double>& left = left_of_[open];
  Slot slot = first;
  for (slot.rank = 0; slot.rank + 1 < count; ++slot.rank) {
    const auto top = std::max_element(left.begin(), left.end());
    if (!(*top > 0.0)) return;
    const double q = *top;
    *top = 0.0;
    add(rules, slot, static_cast<size_t>(top - left.begin()), q, false);
  }
  const double rest = std::accumulate(left.begin(), left.end(), 0.0);
  if (!(rest > 0.0)) return;
  rest_.clear();
  for (size_t i = 0; i < left.size(); ++i) {
    if (!(left[i] > 0.0)) continue;
    rest_.tokens.push_back(laws_[open].token(i));
    rest_.probability.push_back(left[i] / rest);
  }
  make_law(first.node, rest_);
  add(rules, slot, dice.pick(left), rest, true);
}

void SlotGrower::add(const SlotRules& rules, const Slot& slot, size_t index, double share,
                     bool drawn) {
  const auto open = static_cast<size_t>(law_of_[slot.node]);
  const TokenLaw& law = laws_[open];
  const int32_t token = law.token(index), above = node_of_[slot.node];
  const std::vector<double>& left = left_of_[open];
  const double score = drawn ? *std::max_element(left.begin(), left.end()) / slot.left : share;
  const int32_t before = tree_->size();
  const auto rating = static_cast<float>(score);
  const int32_t node = drawn ? tree_->draw(above, token, rating, task_->label)
                             : tree_->add(above, token, rating, task_->label);
  --left_;
  if (tree_->size() == before) {  // an independent draw that repeats a token
    for (Waiting& waiting : waiting_) {
      if (node_of_[waiting.node] == node) waiting.first.copies += 1;
    }
    return;
  }
  at_depth_[static_cast<size_t>(slot.depth) + 1] += 1;
  const Guess& parent = pool_[slot.node];
  const double q = law.probability[index];
  const auto added = static_cast<int32_t>(pool_.size());
  pool_.push_back({slot.node, token, slot.depth + 1, slot.rank, rating, parent.value * rating,
                   static_cast<float>(q)});
  node_of_.push_back(node);
  law_of_.push_back(-1);
  Slot first;
  first.node = added;
  first.depth = slot.depth + 1;
  first.value = rules.below(slot, share);
  first.base = slot.value;
  first.log_path = slot.log_path + exact_log(q);
  if (first.depth >= task_->budget.max_depth || first.value < rules.cut(task_->budget)) return;
  if (task_->stop != nullptr && task_->stop->before_open(pool_, added)) return;
  const auto place = std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting& other) {
    return other.first.value < first.value;
  });
  waiting_.insert(place, {added, first});
}

}  // namespace forerun
