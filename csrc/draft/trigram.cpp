#include "draft/trigram.h"

#include <algorithm>
#include <cmath>

#include "base/hash.h"
#include "base/math.h"

namespace forerun {
namespace {

constexpr int32_t kRoundsPerNode = 4;  // descents that end in a node without children are lost
constexpr size_t kFadesKept = 512;
constexpr float kStays = 0.7F;  // of a law, when the two tokens follow another text
constexpr size_t kRoom = 128;   // nodes of a tree whose growth needs no allocation

}  // namespace

TrigramDrafter::TrigramDrafter(std::shared_ptr<TrigramTable> table, float explore,
                               const std::string& tenant)
    : table_(std::move(table)), salt_(hash_bytes(tenant)), fade_(kFadesKept) {
  children_.reserve(kRoom * 2 * TrigramTable::kRanks);
  of_.reserve(kRoom);
  successors_.reserve(2 * TrigramTable::kRanks);
  for (size_t visits = 0; visits < fade_.size(); ++visits) {
    fade_[visits] = std::pow(1.0F + static_cast<float>(visits), -explore);
  }
}

void TrigramDrafter::open(int32_t node, float value, std::span<const int32_t> context,
                          const Budget& budget, const DraftTree& tree) {
  const auto begin = static_cast<int32_t>(children_.size());
  if (tree.depth()[node] < budget.max_depth) {
    const int32_t above = tree.parent()[node];
    int32_t before = -1;
    if (above >= 0) {
      before = tree.token()[above];
    } else if (context.size() >= 2) {
      before = context[context.size() - 2];
    }
    table_->successors(salt_, before, tree.token()[node], successors_);
    noise_.apply(tree.depth()[node], std::span(successors_), &TrigramTable::Successor::share);
    for (const TrigramTable::Successor& next : successors_) {
      const float reached = value * next.share;
      if (reached >= budget.min_value) children_.push_back({next.token, next.share, reached});
    }
  }
  of_.push_back({begin, static_cast<int32_t>(children_.size())});
}

float TrigramDrafter::drawn(const Child& child) const {
  return child.share * fade_[std::min(static_cast<size_t>(child.visits), fade_.size() - 1)];
}

int32_t TrigramDrafter::best_child(int32_t node) const {
  const Range range = of_[node];
  int32_t best = range.begin < range.end ? range.begin : -1;
  for (int32_t i = range.begin + 1; i < range.end; ++i) {
    if (drawn(children_[i]) > drawn(children_[best])) best = i;
  }
  return best;
}

void TrigramDrafter::propose(std::span<const int32_t> context, const Budget& budget,
                             const DraftNoise& noise, DraftTree& tree) {
  noise_ = SharedNoise(noise, context.size());
  children_.clear();
  of_.clear();
  if (context.empty() || budget.max_nodes <= 0) return;
  open(DraftTree::kRoot, 1.0F, context, budget, tree);
  const int64_t rounds = int64_t{budget.max_nodes} * kRoundsPerNode;
  for (int64_t round = 0; round < rounds && tree.drafted() < budget.max_nodes; ++round) {
    int32_t node = DraftTree::kRoot;
    for (int32_t next = best_child(node); next >= 0; next = best_child(node)) {
      Child& child = children_[next];
      ++child.visits;
      if (child.node < 0) {
        child.node = tree.add(node, child.token, child.share, DraftSource::kTrigram);
        open(child.node, child.value, context, budget, tree);
        break;
      }
      node = child.node;
    }
  }
}

std::span<const float> TrigramDrafter::shares_of(std::span<const float> logits, float temperature) {
  const size_t count = std::min(logits.size(), shares_.size());
  const double scale = temperature > 0.0F ? 1.0 / static_cast<double>(temperature) : 1.0;
  double total = 0.0;
  for (size_t i = 0; i < count; ++i) {
    shares_[i] = static_cast<float>(exact_exp(scale * static_cast<double>(logits[i] - logits[0])));
    total += static_cast<double>(shares_[i]);
  }
  if (!std::isfinite(total)) return TrigramTable::kRankShares;
  for (size_t i = 0; i < count; ++i) shares_[i] *= kStays / static_cast<float>(total);
  return std::span(shares_).first(count);
}

void TrigramDrafter::observe(std::span<const int32_t> context, const Observation& truth) {
  const DraftTree& tree = *truth.tree;
  if (truth.node_topk.empty() || context.size() <= truth.path.size()) return;
  const size_t root = context.size() - truth.path.size() - 1;
  const auto k = static_cast<size_t>(truth.k);
  for (int32_t node = 0; node < tree.size(); ++node) {
    const int32_t above = tree.parent()[node];
    int32_t before = -1;
    if (above >= 0) {
      before = tree.token()[above];
    } else if (root > 0) {
      before = context[root - 1];
    }
    const size_t row = static_cast<size_t>(node) * k;
    const std::span<const float> shares =
        truth.node_logits.empty() ? TrigramTable::kRankShares
                                  : shares_of(truth.node_logits.subspan(row, k), truth.temperature);
    table_->rank(salt_, before, tree.token()[node], truth.node_topk.subspan(row, k), shares);
  }
}

}  // namespace forerun
