#include "draft/continuations.h"

#include <algorithm>

namespace forerun {

namespace {
constexpr size_t kRoom = 1024;  // of a tree whose growth needs no allocation
}

float match_score(int32_t matched) {
  constexpr float kByLength[] = {0.05F, 0.08F, 0.22F, 0.33F, 0.46F, 0.6F, 0.7F};
  if (matched < 7) return kByLength[std::max(matched, 0)];
  if (matched < 9) return 0.8F;
  if (matched < 13) return 0.89F;
  if (matched < 17) return 0.94F;
  return matched < 25 ? 0.97F : 0.99F;
}

ContinuationTree::ContinuationTree() {
  heap_.reserve(kRoom);
  members_.reserve(kRoom);
  votes_.reserve(kRoom);
}

// Ties go to the shallower guess, then to the earlier place.
bool ContinuationTree::worse(const Child& a, const Child& b) {
  if (a.value != b.value) return a.value < b.value;
  return a.depth != b.depth ? a.depth > b.depth : a.first > b.first;
}

void ContinuationTree::grow(std::span<const Continuation> places, const Budget& budget,
                            const Manner& manner, DraftTree& tree) {
  heap_.clear();
  members_.resize(places.size());
  for (size_t i = 0; i < places.size(); ++i) members_[i] = static_cast<int32_t>(i);
  const Child root{-1, -1, 0, 1.0F, 1.0F, 0, static_cast<int32_t>(places.size()), 0};
  expand(places, DraftTree::kRoot, root, budget, manner);
  while (!heap_.empty() && tree.drafted() < budget.max_nodes) {
    std::pop_heap(heap_.begin(), heap_.end(), worse);
    const Child best = heap_.back();
    heap_.pop_back();
    const int32_t node = tree.add(best.parent, best.token, best.score, manner.source);
    expand(places, node, best, budget, manner);
  }
}

void ContinuationTree::expand(std::span<const Continuation> places, int32_t node,
                              const Child& grown, const Budget& budget, const Manner& manner) {
  const int32_t depth = grown.depth + 1;
  if (depth > budget.max_depth) return;
  votes_.clear();
  float all = 1.0F;
  for (int32_t i = grown.begin; i < grown.end; ++i) {
    const int32_t place = members_[static_cast<size_t>(i)];
    const Continuation& from = places[static_cast<size_t>(place)];
    const int32_t token = from.next(depth);
    if (token < 0) continue;
    const float trust = match_score(from.matched + depth - 1);
    const float odds = from.weight * trust / (1.0F - trust);
    votes_.push_back({token, place, odds});
    all += odds;
  }
  std::sort(votes_.begin(), votes_.end(), [](const Vote& a, const Vote& b) {
    return a.token != b.token ? a.token < b.token : a.place < b.place;
  });
  const size_t first = heap_.size();
  for (size_t i = 0; i < votes_.size();) {
    Child child{node, votes_[i].token, depth, 0.0F, 0.0F, static_cast<int32_t>(members_.size()),
                0,    votes_[i].place};
    float share = 0.0F;
    for (; i < votes_.size() && votes_[i].token == child.token; ++i) {
      share += votes_[i].odds;
      members_.push_back(votes_[i].place);
    }
    child.end = static_cast<int32_t>(members_.size());
    child.score = share / all;
    heap_.push_back(child);
  }
  manner.noise.apply(grown.depth, std::span(heap_).subspan(first), &Child::score);
  for (size_t i = first; i < heap_.size(); ++i) heap_[i].value = grown.value * heap_[i].score;
  const auto too_small = [&](const Child& child) { return child.value < budget.min_value; };
  heap_.erase(std::remove_if(heap_.begin() + static_cast<ptrdiff_t>(first), heap_.end(), too_small),
              heap_.end());
  if (manner.best_only && heap_.size() > first) {
    *(heap_.begin() + static_cast<ptrdiff_t>(first)) =
        *std::max_element(heap_.begin() + static_cast<ptrdiff_t>(first), heap_.end(), worse);
    heap_.resize(first + 1);
  }
  for (size_t i = first + 1; i <= heap_.size(); ++i) {
    std::push_heap(heap_.begin(), heap_.begin() + static_cast<ptrdiff_t>(i), worse);
  }
}

}  // namespace forerun
