#include "draft/recycle.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace forerun {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr int32_t kMostLevels = 16;
constexpr uint32_t kForget = 1U << 16;  // a count that makes all counts halve
constexpr double kPriorTries = 32.0;
// Roughly what small models of English and code show at the first tries.
constexpr double kPriorRates[RecycleTable::kRanks] = {0.4,  0.13,  0.07, 0.045,
                                                      0.03, 0.025, 0.02, 0.015};

}  // namespace

RecycleTable::RecycleTable(int32_t vocab) : vocab_(vocab) {
  if (vocab <= 0) {
    throw Error(ErrorKind::kBadArgument,
                "recycle table: a vocabulary of " + std::to_string(vocab) + " tokens");
  }
  const size_t cells = static_cast<size_t>(vocab) * kRanks;
  cells_ = std::make_unique<std::atomic<int32_t>[]>(cells);
  for (size_t i = 0; i < cells; ++i) cells_[i].store(-1, kRelaxed);
}

std::array<int32_t, RecycleTable::kRanks> RecycleTable::row(int32_t token) const {
  std::array<int32_t, kRanks> out;
  out.fill(-1);
  if (token < 0 || token >= vocab_) return out;
  for (int32_t rank = 0; rank < kRanks; ++rank) out[rank] = cell(token, rank).load(kRelaxed);
  return out;
}

void RecycleTable::store(int32_t token, std::span<const int32_t> best) {
  if (token < 0 || token >= vocab_) return;
  int32_t rank = 0;
  for (const int32_t id : best) {
    if (rank == kRanks) break;
    if (id >= 0 && id < vocab_) cell(token, rank++).store(id, kRelaxed);
  }
  for (; rank < kRanks; ++rank) cell(token, rank).store(-1, kRelaxed);
}

void RecycleTable::note(int32_t token, int32_t successor) {
  if (token < 0 || token >= vocab_ || successor < 0 || successor >= vocab_) return;
  for (int32_t rank = 0; rank < kRanks; ++rank) {
    const int32_t there = cell(token, rank).load(kRelaxed);
    if (there == successor) return;
    if (there >= 0) continue;
    cell(token, rank).store(successor, kRelaxed);
    return;
  }
}

void RecycleTable::count(int32_t rank) {
  if (counts_[static_cast<size_t>(rank)].fetch_add(1, kRelaxed) + 1 < kForget) return;
  for (auto& count : counts_) count.store(count.load(kRelaxed) / 2, kRelaxed);
}

std::array<float, RecycleTable::kRanks> RecycleTable::rates() const {
  double tried = kPriorTries;
  for (const auto& count : counts_) tried += count.load(kRelaxed);
  std::array<float, kRanks> out;
  for (int32_t rank = 0; rank < kRanks; ++rank) {
    const double right = counts_[static_cast<size_t>(rank)].load(kRelaxed);
    out[rank] = static_cast<float>((right + kPriorTries * kPriorRates[rank]) / tried);
  }
  return out;
}

void RecycleTable::save(StateWriter& out) const {
  out.put(vocab_);
  out.put(kRanks);
  for (size_t i = 0; i < static_cast<size_t>(vocab_) * kRanks; ++i)
    out.put(cells_[i].load(kRelaxed));
  for (const auto& count : counts_) out.put(count.load(kRelaxed));
}

void RecycleTable::load(ByteCursor in) {
  const auto vocab = in.read<int32_t>("vocabulary");
  const auto ranks = in.read<int32_t>("ranks");
  if (vocab != vocab_ || ranks != kRanks) {
    in.fail(std::to_string(ranks) + " ranks of " + std::to_string(vocab) + " tokens, expected " +
            std::to_string(kRanks) + " of " + std::to_string(vocab_));
  }
  const size_t cells = static_cast<size_t>(vocab_) * kRanks;
  in.check_count(cells + counts_.size(), sizeof(int32_t), "cells");
  for (size_t i = 0; i < cells; ++i) {
    const auto id = in.read<int32_t>("cell");
    if (id < -1 || id >= vocab_)
      in.fail("token " + std::to_string(id) + " is not in the vocabulary");
    cells_[i].store(id, kRelaxed);
  }
  for (auto& count : counts_) count.store(std::min(in.read<uint32_t>("count"), kForget), kRelaxed);
  if (in.remaining() > 0) in.fail("bytes after the end");
}

RecycleDrafter::RecycleDrafter(std::shared_ptr<RecycleTable> table)
    : table_(std::move(table)), policy_(table_->rates()) {}

// The prompt says which tokens follow which: it fills rows that the target has not ranked yet.
void RecycleDrafter::begin(std::span<const int32_t> context) {
  for (size_t i = 1; i < context.size(); ++i) table_->note(context[i - 1], context[i]);
}

void RecycleDrafter::propose(std::span<const int32_t> context, const Budget& budget,
                             const DraftNoise& noise, DraftTree& tree) {
  (void)context, (void)noise;
  policy_.set_rates(table_->rates());
  grower_.grow(policy_, *this, budget, kMostLevels, DraftSource::kRecycle, tree);
}

void RecycleDrafter::children(std::span<const Guess> pool, int32_t node, int32_t width,
                              std::vector<Guess>& children) {
  for (const int32_t token : table_->row(pool[static_cast<size_t>(node)].token)) {
    if (static_cast<int32_t>(children.size()) == width) return;
    const bool repeated = std::any_of(children.begin(), children.end(),
                                      [token](const Guess& guess) { return guess.token == token; });
    if (token >= 0 && !repeated) children.push_back({.token = token});
  }
}

void RecycleDrafter::observe(std::span<const int32_t> context, const Observation& truth) {
  (void)context;
  const DraftTree& tree = *truth.tree;
  for (size_t i = 0; i < truth.path.size(); ++i) {
    const bool last = i + 1 == truth.path.size();
    const int32_t next = last ? truth.bonus : tree.token()[truth.path[i + 1]];
    const auto row = table_->row(tree.token()[truth.path[i]]);
    if (row[0] < 0) continue;
    table_->count(static_cast<int32_t>(std::find(row.begin(), row.end(), next) - row.begin()));
  }
  if (truth.node_topk.empty()) return;
  const auto store = [&](int32_t node) {
    table_->store(tree.token()[node],
                  truth.node_topk.subspan(static_cast<size_t>(node) * static_cast<size_t>(truth.k),
                                          static_cast<size_t>(truth.k)));
  };
  for (int32_t node = 0; node < tree.size(); ++node) store(node);
  for (const int32_t node : truth.path) store(node);
}

std::unique_ptr<Drafter> RecycleDrafter::fork() const {
  return std::make_unique<RecycleDrafter>(table_);
}

}  // namespace forerun
