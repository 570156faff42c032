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
    at->ms = ms;
  } else {
    points_.insert(at, {rows, ms});
  }
  rebuild();
}

void CostModel::observe(int32_t rows, double ms) {
  if (points_.empty() || rows < 1 || rows > kMaxRows || !std::isfinite(ms) || ms <= 0.0) return;
  const double ratio = std::clamp(ms / verify_ms(rows), 1.0 / kClip, kClip);
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
    const double share = kDrift + (kMove - kDrift) * std::max(nearness, 0.0);
    point.ms *= 1.0 + share * (ratio - 1.0);
  }
  rebuild();
}

void CostModel::rebuild() {
  monotone_.assign(points_.begin(), points_.end());
  for (size_t i = 1; i < monotone_.size(); ++i) {
    monotone_[i].ms = std::max(monotone_[i].ms, monotone_[i - 1].ms);
  }
}

double CostModel::verify_ms(int32_t rows) const {
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
