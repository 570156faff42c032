#include "sched/calibration.h"

#include <algorithm>
#include <iterator>

namespace forerun {
namespace {

// Upper edges of the score bins: about even on the scale of log(p / (1 - p)), finest where long
// chains live. Depth groups end at 1, 2, 4, 8, 16 and beyond.
constexpr float kEdges[] = {0.005F, 0.015F, 0.03F, 0.06F, 0.1F,  0.17F, 0.27F, 0.4F,
                            0.53F,  0.66F,  0.77F, 0.86F, 0.92F, 0.96F, 0.985F};
constexpr int32_t kDepthEdges[] = {2, 3, 5, 9, 17};
// Tries for which the next wider estimate is believed, and tries that are remembered.
constexpr double kScoreTries = 3.0, kBinTries = 6.0, kAllTries = 10.0;
constexpr double kBinMemory = 256.0, kDepthMemory = 128.0, kLocalMemory = 32.0;

}  // namespace

void Calibration::Count::add(bool was_accepted, double memory) {
  tried += 1.0;
  accepted += was_accepted ? 1.0 : 0.0;
  if (tried > memory) {
    accepted *= memory / tried;
    tried = memory;
  }
}

double Calibration::Count::shrunk(double towards, double weight) const {
  return (accepted + weight * towards) / (tried + weight);
}

size_t Calibration::bin_of(float score) {
  return static_cast<size_t>(std::upper_bound(std::begin(kEdges), std::end(kEdges), score) -
                             std::begin(kEdges));
}

size_t Calibration::depth_of(int32_t depth) {
  return static_cast<size_t>(
      std::upper_bound(std::begin(kDepthEdges), std::end(kDepthEdges), depth) -
      std::begin(kDepthEdges));
}

double Calibration::acceptance(DraftSource source, float score, int32_t depth) const {
  const size_t s = static_cast<size_t>(source), bin = bin_of(score);
  const double of_bin = bins_[s][bin].shrunk(score, kScoreTries);
  return depths_[s][bin][depth_of(depth)].shrunk(of_bin, kBinTries);
}

void Calibration::add(DraftSource source, float score, int32_t depth, bool accepted) {
  const size_t s = static_cast<size_t>(source), bin = bin_of(score);
  bins_[s][bin].add(accepted, kBinMemory);
  depths_[s][bin][depth_of(depth)].add(accepted, kDepthMemory);
}

double LocalCalibration::acceptance(const Calibration& all, DraftSource source, float score,
                                    int32_t depth) const {
  const auto& count = counts_[static_cast<size_t>(source)][Calibration::bin_of(score)]
                             [Calibration::depth_of(depth)];
  return count.shrunk(all.acceptance(source, score, depth), kAllTries);
}

void LocalCalibration::add(Calibration& all, DraftSource source, float score, int32_t depth,
                           bool accepted) {
  counts_[static_cast<size_t>(source)][Calibration::bin_of(score)][Calibration::depth_of(depth)]
      .add(accepted, kLocalMemory);
  all.add(source, score, depth, accepted);
}

}  // namespace forerun
