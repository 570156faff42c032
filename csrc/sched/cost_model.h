#pragma once

#include <cstdint>
#include <vector>

namespace forerun {

// T_v[n]: milliseconds of a target forward of n rows, n = 1..kMaxRows. Measured points, linear in between, the last
// slope beyond. Kept monotone: a forward of more rows never counts as cheaper.
class CostModel {
 public:
  static constexpr int32_t kMaxRows = 256;

  void set(int32_t rows, double ms);      // a measurement that replaces the point
  void observe(int32_t rows, double ms);  // a step's time: moves the point by an exponential average, outliers clipped
  double verify_ms(int32_t rows) const;   // 0 before the first set()
  bool measured() const { return !points_.empty(); }
  struct Point {
    int32_t rows;
    double ms;
  };
  const std::vector<Point>& points() const { return points_; }

 private:
  std::vector<Point> points_;  // ascending rows
};

}  // namespace forerun
