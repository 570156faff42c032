#pragma once

#include <cstdint>
#include <vector>

namespace forerun {

// T_v[n]: milliseconds of a target forward of n rows, n = 1..kMaxRows. Measured points, linear in
// between, the last slope beyond. Kept monotone: a forward of more rows never counts as cheaper
// (running maximum). On CPUs the curve is a staircase, so points are worth more than a fitted line.
class CostModel {
 public:
  static constexpr int32_t kMaxRows = 256;
  static constexpr double kMove = 0.1;  // share of a step's deviation that its point takes over
  static constexpr double kDrift =
      0.02;  // share that all points take over: context growth, a busy machine
  static constexpr double kClip = 2.0;  // a step counts as at most this many times slower or faster

  // A measurement that replaces the point. Error(kBadArgument) for rows outside [1, kMaxRows] or a
  // time that is not positive and finite.
  void set(int32_t rows, double ms);
  // A step's time: moves the points beside `rows` by an exponential average, outliers clipped.
  // Ignored before set() and when out of range.
  void observe(int32_t rows, double ms);
  double verify_ms(int32_t rows) const;  // 0 before the first set()
  bool measured() const { return !points_.empty(); }
  struct Point {
    int32_t rows;
    double ms;
  };
  const std::vector<Point>& points() const { return points_; }

 private:
  void rebuild();

  std::vector<Point> points_;    // as measured, ascending rows
  std::vector<Point> monotone_;  // running maximum of points_
};

}  // namespace forerun
