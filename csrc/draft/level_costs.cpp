#include "draft/level_costs.h"

#include <algorithm>

namespace forerun {
namespace {
constexpr double kMove = 0.1;
constexpr double kClip = 2.0;  // most times slower that a proposal may seem: noise only adds time
}  // namespace

void LevelCosts::set(double level, double prompt_row) {
  put(first_, level);
  put(level_, level);
  put(prompt_row_, prompt_row);
}

void LevelCosts::learn(double ms, int32_t rows, int32_t levels, int32_t nodes) {
  const double first = get(first_), level = get(level_), more = levels - 1;
  if (rows > kCatchUpRows) {
    const double reading = ms - first - more * level;
    const double known = get(prompt_row_);
    if (reading <= 0.0) return;
    const double row = reading / rows;
    put(prompt_row_, known == 0.0 ? row : known + kMove * (std::min(row, kClip * known) - known));
    return;
  }
  if (first == 0.0) {
    put(first_, ms / levels);
    put(level_, ms / levels);
  } else {
    // Least mean squares, normalised: proposals of one level are about the first alone, and the
    // more levels there are the more is learned about a level.
    const double expected = first + more * level;
    const double error = std::min(ms, kClip * expected) - expected;
    const double step = kMove * error / (1.0 + more * more);
    put(first_, std::max(first + step, 0.1 * first));
    put(level_, std::max(level + more * step, 0.1 * level));
  }
  if (nodes > 1) {
    const double deepening = get(deepening_);
    put(deepening_, deepening + kMove * (more / (nodes - 1) - deepening));
  }
}

double LevelCosts::tree_ms(int32_t nodes) const {
  if (nodes <= 0) return 0.0;
  const double more = std::min(get(deepening_) * (nodes - 1), kMaxLevels - 1.0);
  return get(first_) + more * get(level_);
}

double LevelCosts::reading_ms(int32_t rows) const {
  return rows > kCatchUpRows ? rows * get(prompt_row_) : 0.0;
}

}  // namespace forerun
