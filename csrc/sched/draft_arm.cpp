#include "sched/draft_arm.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace forerun {

void DraftArm::expect(std::span<const double> values, int32_t depth) {
  *this = DraftArm();
  planned_.assign(values.begin(), values.end());
  planned_depth_ = depth;
  profile_ = planned_;
  seen_.assign(planned_.size(), 0);
  known_ = static_cast<int32_t>(planned_.size());
}

int32_t DraftArm::depth() const {
  const bool planned = planned_depth_ > 0 && proposals_ < kPlannedSteps;
  return planned ? planned_depth_ : std::numeric_limits<int32_t>::max();
}

void DraftArm::count(double tokens, double spent) {
  tokens_ = kFade * tokens_ + tokens;
  spent_ = kFade * spent_ + spent;
}

std::span<const double> DraftArm::profile(int32_t nodes) {
  const size_t size = static_cast<size_t>(nodes);
  while (profile_.size() < size) {
    profile_.push_back((profile_.empty() ? 1.0 : profile_.back()) * kFirstProfile);
    seen_.push_back(0);
  }
  return std::span(profile_).first(size);
}

// Sizes that were never asked for are guessed to fall on as the last two that were.
void DraftArm::learn(std::span<const double> ranked, int32_t asked) {
  profile(asked);
  ++proposals_;
  for (int32_t i = 0; i < asked; ++i) {
    const size_t at = static_cast<size_t>(i);
    const double value = at < ranked.size() ? ranked[at] : 0.0;
    const double move = std::max(kProfileMove, 1.0 / (seen_[at]++ + kProfilePrior));
    profile_[at] += move * (value - profile_[at]);
  }
  known_ = std::max(known_, asked);
  if (known_ == 0) return;
  const size_t known = static_cast<size_t>(known_);
  const double last = profile_[known - 1];
  const double before = known_ > 1 ? profile_[known - 2] : 1.0;
  const double fall = before > 0.0 ? std::min(last / before, 1.0) : 0.0;
  for (size_t i = known; i < profile_.size(); ++i) profile_[i] = profile_[i - 1] * fall;
}

void DraftArm::wait() {
  --until_probe_;
  if (++waited_ < kForget) return;
  const std::vector<double> planned = std::move(planned_);
  expect(planned, planned_depth_);
}

void DraftArm::asked(bool paid, bool near) {
  waited_ = 0;
  interval_ = paid ? std::max(interval_ / 8, 1)
                   : std::clamp(2 * interval_, kFirstInterval, near ? kNearInterval : kMaxInterval);
  until_probe_ = paid ? 0 : interval_;
}

}  // namespace forerun
