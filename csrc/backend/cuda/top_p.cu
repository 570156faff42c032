// Top-p over a whole vocabulary, without a list: the winner of the race among all tokens is the
// token if top-p keeps it; else all that are kept rank before it, and the race is run again among
// those (verify/sampler.h). The mass before the winner is summed as backend/vocabulary.h sums it:
// the same chunks, lanes and exponentials, so that the verdict has the bits of the host's.
#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/launch.h"

namespace forerun::cuda {
namespace {

constexpr int kLanes = 16;
constexpr int kChunk = kLanes * kLanes;
constexpr int kThreads = 256;

// The chunks of [0, token) come first, then those of [token, vocabulary).
__host__ __device__ __forceinline__ int chunks_of(int tokens) {
  return (tokens + kChunk - 1) / kChunk;
}

// Grid: x = chunks of a row, kThreads / 16 to a block, y = rows; 16 threads sum a chunk. mass:
// [rows][chunks], all of it and what ranks before the winner.
__global__ void __launch_bounds__(kThreads)
    mass_kernel(Tensor logits, const RowChoice* rows, float2* mass, int chunks) {
  begin_kernel();
  const RowChoice& choice = rows[blockIdx.y];
  if (choice.decided || !choice.draw.top_p_of_all(logits.cols)) return;
  const float* row = logits.data + blockIdx.y * logits.stride;
  const auto winner = static_cast<int>(top_k_id(choice.winner));
  const float best = top_k_value(choice.best), least = row[winner];
  const int chunk = blockIdx.x * (kThreads / kLanes) + threadIdx.x / kLanes;
  const int lane = threadIdx.x % kLanes, before = chunks_of(winner);
  const bool first_part = chunk < before;
  const int begin = first_part ? chunk * kChunk : winner + (chunk - before) * kChunk;
  const int end = min(begin + kChunk, first_part ? winner : logits.cols);
  float total = 0.0F, above = 0.0F;
  for (int i = begin; i < end; i += kLanes) {
    float x = -3.402823466e+38F;  // for NaN, and beside the end
    if (i + lane < end && row[i + lane] > x) x = row[i + lane];
    const float weight = exp_to_one((x - best) / choice.draw.temperature);
    total += weight;
    above += (first_part ? x >= least : x > least) ? weight : 0.0F;
  }
  for (int step = kLanes / 2; step > 0; step /= 2) {
    total += __shfl_xor_sync(~0U, total, step);
    above += __shfl_xor_sync(~0U, above, step);
  }
  if (lane == 0 && begin < logits.cols)
    mass[static_cast<int64_t>(blockIdx.y) * chunks + chunk] = {total, above};
}

// Grid: rows. Keeps the winner, or sets what a token of the next race must reach. Shared: [4]
// doubles.
__global__ void __launch_bounds__(32)
    verdict_kernel(Tensor logits, RowChoice* rows, const float2* mass, int chunks) {
  begin_kernel();
  RowChoice& choice = rows[blockIdx.x];
  if (choice.decided) return;
  const uint32_t winner = top_k_id(choice.winner);
  if (!choice.draw.top_p_of_all(logits.cols) || winner == top_k_id(choice.best)) {
    if (threadIdx.x == 0) choice.decided = 1;
    return;
  }
  auto* sums = shared_memory<double>();
  const int before = chunks_of(static_cast<int>(winner));
  if (threadIdx.x < 4) {  // total and above of the first part, then of the second
    mass += static_cast<int64_t>(blockIdx.x) * chunks;
    const bool first_part = threadIdx.x < 2;
    const int end = before + chunks_of(logits.cols - static_cast<int>(winner));
    double sum = 0.0;
    for (int i = first_part ? 0 : before; i < (first_part ? before : end); ++i)
      sum += threadIdx.x % 2 == 0 ? mass[i].x : mass[i].y;
    sums[threadIdx.x] = sum;
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
  const double wanted = static_cast<double>(choice.draw.top_p) * (sums[0] + sums[2]);
  if (sums[1] + sums[3] < wanted) {
    choice.decided = 1;
    return;
  }
  const float logit = logits.data[blockIdx.x * logits.stride + winner];
  choice.least = top_k_key(logit, winner) + 1;
  choice.winner = 0;
}

}  // namespace

int64_t top_p_scratch(int32_t vocabulary) {
  return (chunks_of(vocabulary) + 1) * static_cast<int64_t>(sizeof(float2));
}

void judge_top_p(Tensor logits, RowChoice* rows, std::byte* scratch, cudaStream_t stream) {
  const int chunks = chunks_of(logits.cols) + 1;
  auto* mass = reinterpret_cast<float2*>(scratch);
  const dim3 grid((chunks * kLanes + kThreads - 1) / kThreads, logits.rows);
  launch("mass_kernel", mass_kernel, grid, kThreads, 0, stream, logits, rows, mass, chunks);
  launch("verdict_kernel", verdict_kernel, logits.rows, 32, 4 * sizeof(double), stream, logits,
         rows, mass, chunks);
}

}  // namespace forerun::cuda
