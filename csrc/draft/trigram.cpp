#include "draft/trigram.h"

#include <algorithm>
#include <cmath>

#include "base/hash.h"

namespace forerun {
namespace {

constexpr int32_t kRoundsPerNode = 4;  // descents that end in a node without children are lost
constexpr size_t kFadesKept = 512;
constexpr size_t kRoom = 128;  // nodes of a tree whose growth needs no allocation

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
  (void)noise;
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
    table_->rank(salt_, before, tree.token()[node],
                 truth.node_topk.subspan(static_cast<size_t>(node) * k, k));
  }
}

}  // namespace forerun
