#include "draft/combined.h"

#include <algorithm>

#include "base/error.h"

namespace forerun {

namespace {
constexpr int32_t kRoom = 256;  // nodes of a fused tree that need no allocation
}

CombinedDrafter::CombinedDrafter(std::vector<std::unique_ptr<Drafter>> drafters)
    : drafters_(std::move(drafters)) {
  if (drafters_.empty()) {
    throw Error(ErrorKind::kBadArgument, "combined drafter: no drafters were given");
  }
  part_.reserve(kRoom);
  pruner_.reserve(kRoom);
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
    if (promised >= kEnough && drafter->expected_ms(budget.max_nodes) > 0.0) continue;
    part_.reset(tree.token()[DraftTree::kRoot]);
    drafter->propose(context, budget, noise, part_);
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
