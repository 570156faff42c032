#include <algorithm>

#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/launch.h"
#include "base/exact_math.h"

namespace forerun::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = 4096;  // logits of a block

// The largest key of a block, in thread 0. Shared: [kThreads / 32].
__device__ __forceinline__ uint64_t block_max(uint64_t key) {
  auto* of_warp = shared_memory<unsigned long long>();
  const auto warp_max = [](uint64_t value) {
    for (int step = 16; step > 0; step /= 2) {
      const uint64_t other = __shfl_xor_sync(~0U, value, step);
      value = other > value ? other : value;
    }
    return value;
  };
  key = warp_max(key);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = key;
  __syncthreads();
  const int lane = threadIdx.x % 32;
  return warp_max(lane < kThreads / 32 ? of_warp[lane] : 0);
}

__device__ __forceinline__ void raise(uint64_t& key, uint64_t by) {
  atomicMax(reinterpret_cast<unsigned long long*>(&key), static_cast<unsigned long long>(by));
}

// Grid of both: x = chunks of the vocabulary, y = rows. The best token of a row; keys are ordered
// as verify/filters.h ranks tokens, so that the maximum does not depend on the order of work.
__global__ void __launch_bounds__(kThreads) best_kernel(Tensor logits, RowChoice* rows) {
  begin_kernel();
  const float* row = logits.data + blockIdx.y * logits.stride;
  const int end = min(logits.cols, static_cast<int>(blockIdx.x + 1) * kChunk);
  uint64_t best = 0;
  for (int id = blockIdx.x * kChunk + threadIdx.x; id < end; id += kThreads) {
    const uint64_t key = top_k_key(row[id], static_cast<uint32_t>(id));
    best = key > best ? key : best;
  }
  best = block_max(best);
  if (threadIdx.x == 0) raise(rows[blockIdx.y].best, best);
}

// The race of verify/gumbel.h. Bound by memory: noise is evaluated only for tokens that a bound of
// it does not rule out.
__global__ void __launch_bounds__(kThreads) race_kernel(Tensor logits, RowChoice* rows) {
  begin_kernel();
  if (rows[blockIdx.y].decided) return;
  const float* row = logits.data + blockIdx.y * logits.stride;
  const TokenDraw draw = rows[blockIdx.y].draw;
  const uint64_t best_key = rows[blockIdx.y].best, least_key = rows[blockIdx.y].least;
  const float best = top_k_value(best_key);
  const auto first = static_cast<int32_t>(top_k_id(best_key));
  const bool plain = draw.temperature == 0.0F || !(fabsf(best) < bits_float(0x7F800000U));
  const auto bits_of_token = [&](int32_t id) {
    return exact::random_words(draw.seed, draw.position, id, NoiseStream::kTarget).at[0];
  };
  float score = plain ? 0.0F : exact::gumbel(bits_of_token(first));
  int32_t token = first;
  const int end = plain ? 0 : min(logits.cols, static_cast<int>(blockIdx.x + 1) * kChunk);
  for (int32_t id = blockIdx.x * kChunk + threadIdx.x; id < end; id += kThreads) {
    const float z = (row[id] - best) / draw.temperature;
    if (!(z >= draw.least_scaled) || !(z + kMaxGumbel >= score)) continue;  // NaN leaves here
    if (top_k_key(row[id], static_cast<uint32_t>(id)) < least_key) continue;
    const uint32_t bits = bits_of_token(id);
    if (z + exact::gumbel_bound(bits) < score) continue;
    const float reached = z + exact::gumbel(bits);
    if (reached > score || (reached == score && id < token)) {
      score = reached;
      token = id;
    }
  }
  const uint64_t winner = block_max(top_k_key(score, static_cast<uint32_t>(token)));
  if (threadIdx.x == 0) raise(rows[blockIdx.y].winner, winner);
}

// Top-k, and top-p among its tokens as verify/filters.h cuts them: sets the key that a token must
// reach. Grid: rows; keys [rows][k], the largest first. Shared: [k] doubles.
__global__ void __launch_bounds__(kThreads)
    cut_kernel(RowChoice* rows, const uint64_t* keys, int k, int vocabulary) {
  begin_kernel();
  auto* weight = shared_memory<double>();
  RowChoice& row = rows[blockIdx.x];
  if (!row.draw.ranked(vocabulary)) return;
  const int kept = row.draw.top_k;
  keys += static_cast<int64_t>(blockIdx.x) * k;
  const float best = top_k_value(keys[0]);
  for (int i = threadIdx.x; i < kept; i += kThreads) {
    const float value = top_k_value(keys[i]);
    const float z = (value - best) / row.draw.temperature;
    weight[i] = value > bits_float(0xFF800000U) ? exact::exp(z) : 0.0;
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
  int last = kept - 1;
  if (row.draw.top_p < 1.0F) {
    double total = 0.0, sum = 0.0;
    for (int i = 0; i < kept; ++i) total += weight[i];
    const double wanted = static_cast<double>(row.draw.top_p) * total;
    for (int i = 0; i < kept; ++i) {
      sum += weight[i];
      if (sum >= wanted) {
        last = i;
        break;
      }
    }
  }
  row.least = keys[last];
}

dim3 grid_of(const Tensor& logits) {
  return dim3((logits.cols + kChunk - 1) / kChunk, logits.rows);
}
constexpr size_t kBlockMax = sizeof(uint64_t) * kThreads / 32;

}  // namespace

void cut_ranked(RowChoice* rows, int32_t count, const uint64_t* keys, int32_t k, int32_t vocabulary,
                cudaStream_t stream) {
  launch("cut_kernel", cut_kernel, count, kThreads, sizeof(double) * static_cast<size_t>(k), stream,
         rows, keys, k, vocabulary);
}

void find_best(Tensor logits, RowChoice* rows, cudaStream_t stream) {
  launch("best_kernel", best_kernel, grid_of(logits), kThreads, kBlockMax, stream, logits, rows);
}

void race(Tensor logits, RowChoice* rows, cudaStream_t stream) {
  launch("race_kernel", race_kernel, grid_of(logits), kThreads, kBlockMax, stream, logits, rows);
}

}  // namespace forerun::cuda
