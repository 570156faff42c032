#include "sched/cost_model.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"

namespace forerun {

void CostModel::set(int32_t rows, double ms) {
  if (rows < 1 || rows > kMaxRows || !std::isfinite(ms) || ms <= 0.0) {
    throw Error(ErrorKind::kBadArgument, "cost model: " + std::to_string(ms) + " ms for " +
                                             std::to_string(rows) + " rows; expected 1 to " +
                                             std::to_string(kMaxRows) + " rows and a time above 0");
  }
  const auto at =
      std::lower_bound(points_.begin(), points_.end(), rows,
                       [](const Point& point, int32_t wanted) { return point.rows < wanted; });
  if (at != points_.end() && at->rows == rows) {
    *at = {rows, ms};
  } else {
    points_.insert(at, {rows, ms});
  }
  rebuild();
}

void CostModel::set_context(double ms_per_position, double ms_per_row_position) {
  for (const double ms : {ms_per_position, ms_per_row_position}) {
    if (!std::isfinite(ms) || ms < 0.0) {
      throw Error(ErrorKind::kBadArgument,
                  "cost model: " + std::to_string(ms) + " ms per position; expected 0 or more");
    }
  }
  position_ms_ = ms_per_position;
  row_position_ms_ = ms_per_row_position;
}

double CostModel::believable_ms(const Load& load, double ms) const {
  return std::min(ms, (trusted(load.rows) ? kClip : kNewClip) * verify_ms(load));
}

void CostModel::observe(const Load& load, double ms, bool plain) {
  const int32_t rows = load.rows;
  if (points_.empty() || rows < 1 || rows > kMaxRows || !std::isfinite(ms) || ms <= 0.0) return;
  const double expected = verify_ms(load);
  const double ratio = believable_ms(load, ms) / expected;
  const double excess = std::max(plain ? std::min(ratio, kPlainClip) : ratio, 0.01) - 1.0;
  const double of_context = context_ms(load) / expected;
  most_seen_ = std::max(most_seen_, rows);
  ++steps_;
  for (size_t i = 0; i < points_.size(); ++i) {
    Point& point = points_[i];
    // 1 at the point itself, falling to 0 at the neighbouring points.
    double nearness = 1.0;
    if (rows < point.rows && i > 0) {
      const int32_t before = points_[i - 1].rows;
      nearness = static_cast<double>(rows - before) / (point.rows - before);
    } else if (rows > point.rows && i + 1 < points_.size()) {
      const int32_t after = points_[i + 1].rows;
      nearness = static_cast<double>(after - rows) / (after - point.rows);
    }
    nearness = std::max(nearness, 0.0);
    const bool wrong = point.seen < kSeen && excess < 0.0;
    if (wrong && point.seen == 0) nearness = std::max(nearness, 0.5);  // perhaps all were slow
    const double stale = std::min(kMoveStale, kMove * (steps_ - point.last));
    const double move = wrong ? 1.0 : std::max({kMove, stale, 1.0 / (2.0 + point.seen)});
    if (nearness > 0.0 && !wrong) point.ms = monotone_[i].ms;
    point.ms *= 1.0 + (kDrift + (move - kDrift) * nearness) * (1.0 - of_context) * excess;
    if (nearness < 0.5 && point.seen < kSeen) point.ms *= 1.0 - kForget / (1.0 + 3.0 * point.seen);
    if (nearness >= 0.5) {
      point.seen += std::abs(excess) < 0.25 ? kSeen : 1;
      point.last = steps_;
    }
  }
  position_ms_ *= 1.0 + kMove * of_context * excess;
  row_position_ms_ *= 1.0 + kMove * of_context * excess;
  rebuild();
}

void CostModel::rebuild() {
  monotone_.assign(points_.begin(), points_.end());
  for (size_t i = 1; i < monotone_.size(); ++i) {
    monotone_[i].ms = std::max(monotone_[i].ms, monotone_[i - 1].ms);
  }
}

double CostModel::verify_ms(const Load& load) const {
  return monotone_.empty() ? 0.0 : rows_ms(load.rows) + context_ms(load);
}

double CostModel::risked_ms(const Load& load) const {
  Load most = load;
  most.rows = std::min(load.rows, most_seen_);
  const double in_use = verify_ms(most) * load.rows / most.rows;
  return load.rows > most_seen_ ? std::max(verify_ms(load), in_use) : verify_ms(load);
}

size_t CostModel::nearest(int32_t rows) const {
  size_t best = 0;
  for (size_t i = 1; i < points_.size(); ++i) {
    if (std::abs(points_[i].rows - rows) < std::abs(points_[best].rows - rows)) best = i;
  }
  return best;
}

bool CostModel::trusted(int32_t rows) const {
  return !points_.empty() && points_[nearest(rows)].seen >= kSeen;
}

double CostModel::context_ms(const Load& load) const {
  return position_ms_ * load.positions + row_position_ms_ * load.row_positions;
}

double CostModel::rows_ms(int32_t rows) const {
  if (monotone_.empty()) return 0.0;
  if (monotone_.size() == 1 || rows <= monotone_.front().rows) return monotone_.front().ms;
  size_t right = 1;
  while (right + 1 < monotone_.size() && monotone_[right].rows < rows) ++right;
  const Point& a = monotone_[right - 1];
  const Point& b = monotone_[right];
  // lerp is monotone in its last argument, rounding included.
  return std::lerp(a.ms, b.ms, static_cast<double>(rows - a.rows) / (b.rows - a.rows));
}

}  // namespace forerun
