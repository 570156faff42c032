#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace forerun {

// What a target forward has to do: rows of one or several sequences, each row attending over the
// context of its sequence.
struct Load {
  int32_t rows = 0;
  double positions = 0.0;      // context lengths, one per sequence, added up
  double row_positions = 0.0;  // context lengths, one per row, added up

  void add(int32_t more_rows, int32_t context) {  // another sequence
    rows += more_rows;
    positions += context;
    row_positions += static_cast<double>(more_rows) * context;
  }
  void add_rows(int32_t more_rows, int32_t context) {  // of a sequence that is in it
    rows += more_rows;
    row_positions += static_cast<double>(more_rows) * context;
  }
};

// T_v: milliseconds of a target forward. The part that reads weights depends on the rows alone:
// measured points, linear in between, the last slope beyond, kept monotone by a running maximum (on
// CPUs it is a staircase, so points are worth more than a fitted line). Attention adds a term per
// position of each context and one per position and row. Both parts follow what steps take. Noise
// only ever adds time: what is faster than expected is believed at once, what is slower counts at
// most as a few times so, least where it would raise the yardstick, the plain step. A point that
// was never seen in use may be wrong by any factor; it moves fast, and most_rows() grows by
// doubling.
class CostModel {
 public:
  static constexpr int32_t kMaxRows = 256;
  static constexpr double kMove = 0.1;  // share of a deviation that a point often seen takes over
  static constexpr double kMoveStale = 0.35;  // ... that was not seen for some steps
  static constexpr double kDrift = 0.04;      // share that all points take over: a busy machine
  static constexpr double kClip = 2.0;        // most times slower that a step may seem
  static constexpr double kPlainClip = 1.1, kNewClip = 8.0;  // a plain step; a point seldom seen
  static constexpr int32_t kSeen = 3;                        // often
  static constexpr double kForget =
      0.002;  // per step, of a point not seen often: it is tried again

  // Measurements that replace what is known: of `rows` rows without context; of the context.
  // Error(kBadArgument) for rows outside [1, kMaxRows] or a time that is not positive and finite
  // (context: not negative).
  void set(int32_t rows, double ms);
  void set_context(double ms_per_position, double ms_per_row_position);
  // A step's time. Ignored before set() and when out of range.
  void observe(const Load& load, double ms, bool plain = false);
  // The time as far as it is believed: what a step may be charged with.
  double believable_ms(const Load& load, double ms) const;

  double verify_ms(const Load& load) const;  // 0 before the first set()
  double verify_ms(int32_t rows) const { return rows_ms(rows); }
  double row_position_ms() const { return row_position_ms_; }
  bool measured() const { return !points_.empty(); }
  bool trusted(int32_t rows) const;  // the point nearest to `rows` was seen often
  int32_t most_rows() const { return 2 * most_seen_; }  // no larger forward should be risked
  // The time that must be reckoned with: of more rows than were ever seen in use, at least in
  // proportion.
  double risked_ms(const Load& load) const;

  struct Point {
    int32_t rows;
    double ms;
    int32_t seen = 0;  // in use
    int64_t last = 0;  // step
  };
  const std::vector<Point>& points() const { return points_; }

 private:
  size_t nearest(int32_t rows) const;
  double rows_ms(int32_t rows) const;
  double context_ms(const Load& load) const;
  void rebuild();

  std::vector<Point> points_;    // as measured, ascending rows
  std::vector<Point> monotone_;  // running maximum of points_
  double position_ms_ = 0.0, row_position_ms_ = 0.0;
  int32_t most_seen_ = 2;
  int64_t steps_ = 0;
};

}  // namespace forerun
