#pragma once

#include <cstdint>

namespace forerun {

// A race for the largest logit with noise (verify/gumbel.h) among some tokens of a row.
struct NoiseScan {
  const float* logits = nullptr;
  int64_t count = 0;
  float best = 0.0F;  // the largest logit of the row
  float temperature = 1.0F;
  float least_scaled = 0.0F;  // (logit - best) / temperature of who takes part
  uint64_t seed = 0;
  int64_t position = 0;
};

// Sums of exp((logit - best) / temperature).
struct Mass {
  double total = 0.0;
  double above = 0.0;  // of the logits that are at least `least`
};

// Scans over one row of logits in host memory, with the instructions that the CPU has. NaN counts
// as -inf. Every instruction set gives the same results.
struct VocabularyKernels {
  // The lowest index of the largest value; 0 when there is none above -inf.
  int64_t (*largest)(const float* x, int64_t count);
  // The first index >= begin with x[index] > threshold, else count.
  int64_t (*find_above)(const float* x, int64_t begin, int64_t count, float threshold);
  // The first index in [begin, end) whose token takes part, has a logit of at least `least`, and
  // may reach `score` with its noise; else end. Tokens are passed over only when an upper bound of
  // their noise proves that they stay below.
  int64_t (*find_contender)(const NoiseScan& scan, int64_t begin, int64_t end, float least,
                            float score);
  // Over [begin, end); fp32 exponentials, summed in double in chunks of a fixed order.
  Mass (*mass)(const NoiseScan& scan, int64_t begin, int64_t end, float least);
};

const VocabularyKernels& vocabulary_kernels();  // of selected_isa()

}  // namespace forerun
