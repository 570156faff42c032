#include "draft/combined.h"

#include <algorithm>

#include "base/error.h"

namespace forerun {

CombinedDrafter::CombinedDrafter(std::vector<std::unique_ptr<Drafter>> drafters)
    : drafters_(std::move(drafters)) {
  if (drafters_.empty()) {
    throw Error(ErrorKind::kBadArgument, "combined drafter: no drafters were given");
  }
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

void CombinedDrafter::propose(std::span<const int32_t> context, const Budget& budget,
                              const DraftNoise& noise, DraftTree& tree) {
  for (const auto& drafter : drafters_) {
    double promised = 0.0;
    const std::span<const float> values = pruner_.path_values(tree);
    for (size_t node = 1; node < values.size(); ++node) promised += values[node];
    Budget share = budget;
    if (drafter->expected_ms(1) > 0.0) {
      const bool asked = (budget.asked >> static_cast<uint32_t>(drafter->source()) & 1U) != 0;
      if (!asked || promised >= kEnough) continue;
      share.max_nodes = std::min(budget.max_nodes, budget.asked_nodes);
    }
    part_.reset(tree.token()[DraftTree::kRoot]);
    drafter->propose(context, share, noise, part_);
    pruner_.fuse(part_, tree);
  }
  pruner_.keep_best(tree, std::max(budget.max_nodes, 0));
}

void CombinedDrafter::observe(std::span<const int32_t> context, const Observation& truth) {
  for (const auto& drafter : drafters_) drafter->observe(context, truth);
}

void CombinedDrafter::rewind(std::span<const int32_t> context) {
  for (const auto& drafter : drafters_) drafter->rewind(context);
}

std::unique_ptr<Drafter> CombinedDrafter::fork() const {
  std::vector<std::unique_ptr<Drafter>> copies;
  for (const auto& drafter : drafters_) copies.push_back(drafter->fork());
  return std::make_unique<CombinedDrafter>(std::move(copies));
}

void CombinedDrafter::finish(std::span<const int32_t> context, std::span<const uint8_t> emitted) {
  for (const auto& drafter : drafters_) drafter->finish(context, emitted);
}

int32_t CombinedDrafter::wanted_topk() const {
  int32_t k = 0;
  for (const auto& drafter : drafters_) k = std::max(k, drafter->wanted_topk());
  return k;
}

double CombinedDrafter::expected_ms(int32_t nodes) const {
  double sum = 0.0;
  for (const auto& drafter : drafters_) sum += drafter->expected_ms(nodes);
  return sum;
}

}  // namespace forerun
