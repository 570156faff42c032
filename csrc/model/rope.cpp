#include <algorithm>
#include <cmath>
#include <numbers>

#include "model/config.h"

namespace forerun {
namespace {

// Dimension (as a real number) whose wave turns `turns` times within the original context.
double yarn_dimension(const RopeConfig& rope, double turns) {
  return rope.rotary * std::log(rope.original_context / (turns * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(static_cast<double>(rope.base)));
}

// Share of interpolation of pair i: 0 keeps the frequency, 1 divides it by the factor.
double yarn_ramp(const RopeConfig& rope, int32_t i) {
  const double low = std::max(0.0, std::floor(yarn_dimension(rope, rope.beta_fast)));
  double high = std::min(rope.rotary - 1.0, std::ceil(yarn_dimension(rope, rope.beta_slow)));
  if (high == low) high += 0.001;
  return std::clamp((i - low) / (high - low), 0.0, 1.0);
}

double llama3_frequency(const RopeConfig& rope, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double original = rope.original_context;
  if (wavelength < original / rope.high_freq_factor) return frequency;
  if (wavelength > original / rope.low_freq_factor) return frequency / rope.factor;
  const double smooth = (original / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0 - smooth) * frequency / rope.factor + smooth * frequency;
}

double frequency(const RopeConfig& rope, int32_t i) {
  double f = std::pow(static_cast<double>(rope.base), -2.0 * i / rope.rotary);
  if (!rope.frequency_divisors.empty()) f /= rope.frequency_divisors[static_cast<size_t>(i)];
  switch (rope.scaling) {
    case RopeConfig::Scaling::kNone:
      return f;
    case RopeConfig::Scaling::kLinear:
      return f / rope.factor;
    case RopeConfig::Scaling::kLlama3:  // what a file's divisors are made of
      return rope.frequency_divisors.empty() ? llama3_frequency(rope, f) : f;
    case RopeConfig::Scaling::kYarn: {
      const double ramp = yarn_ramp(rope, i);
      return f / rope.factor * ramp + f * (1.0 - ramp);
    }
  }
  return f;
}

}  // namespace

double rope_magnitude(const RopeConfig& rope) {
  if (rope.attention_factor > 0.0F) return rope.attention_factor;
  if (rope.scaling != RopeConfig::Scaling::kYarn || rope.factor <= 1.0F) return 1.0;
  return 0.1 * std::log(static_cast<double>(rope.factor)) + 1.0;
}

std::vector<double> rope_frequencies(const RopeConfig& rope) {
  std::vector<double> out(static_cast<size_t>(rope.rotary / 2));
  for (int32_t i = 0; i < rope.rotary / 2; ++i) out[static_cast<size_t>(i)] = frequency(rope, i);
  return out;
}

void rope_rows(const RopeConfig& rope, std::span<const double> frequencies,
               std::span<const int32_t> positions, float* out) {
  const double scale = rope_magnitude(rope);
  const size_t half = frequencies.size();
  for (const int32_t position : positions) {
    for (size_t i = 0; i < half; ++i) {
      const double angle = position * frequencies[i];
      out[i] = static_cast<float>(std::cos(angle) * scale);
      out[half + i] = static_cast<float>(std::sin(angle) * scale);
    }
    out += 2 * half;
  }
}

}  // namespace forerun
