#include "draft/retrieval.h"

#include <algorithm>

namespace forerun {

void RetrievalDrafter::propose(std::span<const int32_t> context, const Budget& budget,
                               const DraftNoise& noise, DraftTree& tree) {
  if (budget.max_nodes <= 0) return;
  // A longer suffix occurs nowhere that a shorter one does not: bisect for the longest.
  Datastore::Range range;
  int32_t found = kShortest - 1;
  int32_t missing = std::min(kLongest, static_cast<int32_t>(context.size())) + 1;
  while (missing - found > 1) {
    const int32_t length = found + (missing - found) / 2;
    const Datastore::Range there = store_->find(context.last(static_cast<size_t>(length)));
    if (there.empty()) {
      missing = length;
    } else {
      found = length;
      range = there;
    }
  }
  if (range.empty()) return;
  places_.clear();
  const uint64_t count = range.end - range.begin;
  const uint64_t taken = std::min(count, kPlaces);
  for (uint64_t i = 0; i < taken; ++i) {
    const uint64_t start = store_->suffix(range.begin + i * count / taken);
    places_.push_back({store_.get(), start + static_cast<uint64_t>(found) - 1, found, 0, 1.0F});
  }
  const SharedNoise own_noise(noise, context.size());
  grower_.grow(places_, budget, {DraftSource::kRetrieval, own_noise}, tree);
}

}  // namespace forerun
