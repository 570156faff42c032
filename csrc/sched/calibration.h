#pragma once

#include <array>
#include <cstdint>

#include "tree/draft_tree.h"

namespace forerun {

// How often a guess comes true, given that its parent did, learned from what was accepted. Guesses
// are told apart by who made them, by the score that the drafter gave them (16 bins) and by depth.
// Little evidence is shrunk towards what is known about more: the depth towards its bin, the bin
// towards the score itself. Counts fade, so that old text does not outweigh the present.
class Calibration {
 public:
  double acceptance(DraftSource source, float score, int32_t depth) const;
  void add(DraftSource source, float score, int32_t depth, bool accepted);

 private:
  friend class LocalCalibration;
  static constexpr int kBins = 16, kDepths = 6;
  struct Count {
    double accepted = 0.0, tried = 0.0;
    void add(bool was_accepted, double memory);
    double shrunk(double towards, double weight) const;
  };
  template <typename T>
  using BySource = std::array<std::array<T, kBins>, kDraftSources>;
  static size_t bin_of(float score);
  static size_t depth_of(int32_t depth);

  BySource<Count> bins_{};
  BySource<std::array<Count, kDepths>> depths_{};
};

// The same for one sequence, shrunk towards what all sequences have seen.
class LocalCalibration {
 public:
  double acceptance(const Calibration& all, DraftSource source, float score, int32_t depth) const;
  void add(Calibration& all, DraftSource source, float score, int32_t depth, bool accepted);

 private:
  Calibration::BySource<std::array<Calibration::Count, Calibration::kDepths>> counts_{};
};

}  // namespace forerun
