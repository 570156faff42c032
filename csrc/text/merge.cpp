#include "text/merge.h"

#include <algorithm>

namespace forerun {

void Merger::append(int32_t id, uint32_t begin) {
  const auto index = static_cast<int32_t>(symbols_.size());
  if (index > 0) symbols_.back().next = index;
  symbols_.push_back({id, begin, index - 1, -1});
}

void Merger::consider(const MergeTable& table, int32_t left) {
  if (left < 0) return;
  const int32_t right = symbols_[left].next;
  if (right < 0 || symbols_[left].id < 0 || symbols_[right].id < 0) return;
  const MergeTable::Rule* rule = table.find(symbols_[left].id, symbols_[right].id);
  if (rule == nullptr) return;
  heap_.push_back({rule->rank, left, symbols_[left].id, symbols_[right].id});
  std::push_heap(heap_.begin(), heap_.end(), later);
}

void Merger::merge(const MergeTable& table) {
  heap_.clear();
  for (int32_t i = 0; i + 1 < static_cast<int32_t>(symbols_.size()); ++i) consider(table, i);
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    const Candidate pair = heap_.back();
    heap_.pop_back();
    Symbol& left = symbols_[pair.left];
    if (left.id != pair.left_id || left.next < 0) continue;
    Symbol& right = symbols_[left.next];
    if (right.id != pair.right_id) continue;
    left.id = table.find(pair.left_id, pair.right_id)->merged;
    right.id = -1;  // out of the list; no candidate matches it any more
    left.next = right.next;
    if (left.next >= 0) symbols_[left.next].previous = pair.left;
    consider(table, left.previous);
    consider(table, pair.left);
  }
}

}  // namespace forerun
