#include "draft/excerpt.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"

namespace forerun {
namespace {

constexpr size_t kAsked = 64;  // latest tokens that say what is looked for

uint64_t pair_at(std::span<const int32_t> text, size_t at) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(text[at])) << 32) |
         static_cast<uint32_t>(text[at + 1]);
}

}  // namespace

ExcerptDrafter::ExcerptDrafter(std::unique_ptr<Drafter> reader, ExcerptOptions options)
    : reader_(std::move(reader)), options_(options) {
  if (options_.chunk < 2 || options_.recent < 1 ||
      options_.tokens < 2 * options_.recent + options_.chunk) {
    throw Error(ErrorKind::kBadArgument,
                "excerpt: " + std::to_string(options_.tokens) + " tokens in chunks of " +
                    std::to_string(options_.chunk) + ", " + std::to_string(options_.recent) +
                    " of them recent; expected chunks of 2 tokens or more, and room for one beside "
                    "twice the recent tokens");
  }
}

// Chunks fill what twice the recent tokens leave, so that as many can follow before the next
// choice.
void ExcerptDrafter::choose(std::span<const int32_t> context) {
  const auto chunk = static_cast<size_t>(options_.chunk);
  const auto recent = static_cast<size_t>(options_.recent);
  tail_ = context.size() - recent;
  const size_t chunks = tail_ / chunk;
  const size_t room = (static_cast<size_t>(options_.tokens) - 2 * recent) / chunk;
  std::unordered_set<uint64_t> asked;
  for (size_t at = context.size() - std::min(kAsked, recent); at + 1 < context.size(); ++at) {
    asked.insert(pair_at(context, at));
  }
  std::unordered_map<uint64_t, double> times;
  for (size_t at = 0; at + 1 < tail_; ++at) {
    if (asked.contains(pair_at(context, at))) times[pair_at(context, at)] += 1.0;
  }
  std::vector<std::pair<double, size_t>> worth(chunks);  // negated, so that the best come first
  for (size_t i = 0; i < chunks; ++i) {
    worth[i] = {i == 0 ? -1e9 : 0.0, i};
    for (size_t at = i * chunk; at + 1 < (i + 1) * chunk; ++at) {
      const auto found = times.find(pair_at(context, at));
      if (found != times.end()) worth[i].first -= 1.0 / found->second;
    }
  }
  std::sort(worth.begin(), worth.end());
  worth.resize(std::min(room, chunks));
  std::sort(worth.begin(), worth.end(), [](auto& a, auto& b) { return a.second < b.second; });
  excerpt_.clear();
  for (const auto& [value, i] : worth) {
    const auto piece = context.subspan(i * chunk, chunk);
    excerpt_.insert(excerpt_.end(), piece.begin(), piece.end());
  }
  chosen_ = excerpt_.size();
}

bool ExcerptDrafter::follow(std::span<const int32_t> context) {
  const auto limit = static_cast<size_t>(options_.tokens);
  bool same = true;
  if (context.size() <= limit) {
    same = chosen_ == 0;
    chosen_ = tail_ = 0;
  } else if (context.size() <= tail_ || chosen_ + context.size() - tail_ > limit) {
    choose(context);
    same = false;
  }
  excerpt_.resize(chosen_);
  excerpt_.insert(excerpt_.end(), context.begin() + static_cast<ptrdiff_t>(tail_), context.end());
  return same;
}

void ExcerptDrafter::begin(std::span<const int32_t> context) {
  chosen_ = tail_ = 0;
  follow(context);
  reader_->begin(excerpt_);
}

void ExcerptDrafter::propose(std::span<const int32_t> context, const Budget& budget,
                             const DraftNoise& noise, DraftTree& tree) {
  if (!follow(context)) reader_->begin(excerpt_);
  DraftNoise placed = noise;
  placed.unseen += static_cast<int64_t>(context.size() - excerpt_.size());
  reader_->propose(excerpt_, budget, placed, tree);
}

void ExcerptDrafter::observe(std::span<const int32_t> context, const Observation& truth) {
  if (follow(context)) {
    reader_->observe(excerpt_, truth);
  } else {
    reader_->begin(excerpt_);
  }
}

void ExcerptDrafter::rewind(std::span<const int32_t> context) {
  if (follow(context)) {
    reader_->rewind(excerpt_);
  } else {
    reader_->begin(excerpt_);
  }
}

std::unique_ptr<Drafter> ExcerptDrafter::fork() const {
  auto copy = std::make_unique<ExcerptDrafter>(reader_->fork(), options_);
  copy->excerpt_ = excerpt_;
  copy->chosen_ = chosen_;
  copy->tail_ = tail_;
  return copy;
}

}  // namespace forerun
