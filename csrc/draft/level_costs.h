#pragma once

#include <atomic>
#include <cstdint>

namespace forerun {

// What the proposals of a drafter take that grows its tree level by level. All sequences of an
// engine learn into one, so that a new one knows what the last one found. The first level reads the
// tokens that were written since, and its weights from memory where those of the target have driven
// them out of the caches; it takes longer than the others. Milliseconds; 0: not known yet. Several
// threads may use it: what one of them learns may then be lost.
class LevelCosts {
 public:
  static constexpr int32_t kMaxLevels = 16;
  static constexpr int32_t kCatchUpRows = 16;  // more are a prefill, not a cost of drafting

  // Measured before any proposal.
  void set(double level, double prompt_row);

  // A proposal of at most `nodes` nodes that opened `levels` levels after reading `rows` tokens.
  void learn(double ms, int32_t rows, int32_t levels, int32_t nodes);

  double tree_ms(int32_t nodes) const;             // 0 of none
  double level_ms() const { return get(level_); }  // one more level
  double reading_ms(int32_t rows) const;  // before the first level; 0 of few, which are part of it

 private:
  using Value = std::atomic<double>;
  static double get(const Value& value) { return value.load(std::memory_order_relaxed); }
  static void put(Value& value, double x) { value.store(x, std::memory_order_relaxed); }

  Value first_{0.0}, level_{0.0}, prompt_row_{0.0};
  Value deepening_{1.0};  // levels beyond the first, per node beyond the first
};

}  // namespace forerun
