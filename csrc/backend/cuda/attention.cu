#include <cuda_fp16.h>

#include <algorithm>
#include <string>

#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/launch.h"
#include "base/error.h"

namespace forerun::cuda {
namespace {

constexpr int kBlock = KvLayout::kPageSlots;  // logical positions of a block
constexpr int kWarps = 4;
constexpr int kSpan = kBlock * kWarps;  // logical positions of a thread block
constexpr int kHeads = 4;               // query heads of a warp, all of one KV head

struct AttentionArgs {
  DeviceBatch batch;
  int32_t layer, heads, first_row, spans;
  float scale;
  Tensor q, out;
  float*
      partial;  // [rows of the launch][heads][spans][2 + head_dim]: maximum, sum, weighted values
};

__device__ __forceinline__ int slot_of(const DeviceBatch& batch, const AttentionRow& row,
                                       int position) {
  return position < row.prefix ? position : batch.path[row.path_begin + position - row.prefix];
}

__device__ __forceinline__ float warp_max(float value) {
  for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(~0U, value, step));
  return value;
}
__device__ __forceinline__ float warp_sum(float value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0U, value, step);
  return value;
}

// Scores of positions 2 l and 2 l + 1 of the block at k_first / k_second (a column of
// [head_dim][64]), one chain over head_dim. Contiguous: both lie side by side in one page, so that
// one 4-byte load brings both.
template <bool Contiguous, int Step>
__device__ __forceinline__ void score_step(const __half* k_first, const __half* k_second,
                                           const float* q, int head_dim, int d,
                                           float (&low)[kHeads], float (&high)[kHeads]) {
  float2 key[Step];
#pragma unroll
  for (int i = 0; i < Step; ++i) {
    if constexpr (Contiguous) {
      key[i] = __half22float2(*reinterpret_cast<const __half2*>(k_first + (d + i) * kBlock));
    } else {
      key[i] = {__half2float(k_first[(d + i) * kBlock]), __half2float(k_second[(d + i) * kBlock])};
    }
  }
#pragma unroll
  for (int i = 0; i < Step; ++i) {
#pragma unroll
    for (int head = 0; head < kHeads; ++head) {
      const float value = q[head * head_dim + d + i];
      low[head] = fmaf(value, key[i].x, low[head]);
      high[head] = fmaf(value, key[i].y, high[head]);
    }
  }
}

template <bool Contiguous>
__device__ __forceinline__ void score(const __half* k_first, const __half* k_second, const float* q,
                                      int head_dim, float (&low)[kHeads], float (&high)[kHeads]) {
  constexpr int kStep = 32;  // loads in flight
  int d = 0;
  for (; d + kStep <= head_dim; d += kStep) {
    score_step<Contiguous, kStep>(k_first, k_second, q, head_dim, d, low, high);
  }
  for (; d < head_dim; ++d) score_step<Contiguous, 1>(k_first, k_second, q, head_dim, d, low, high);
}

// acc += weight * value of Step positions from j on. v_low, v_high: where the values of the lane's
// two positions lie; contiguous: all values of the block lie in one page, from v_low of lane 0 on.
template <int Pairs, int Step>
__device__ __forceinline__ void weigh_step(const __half* v_low, const __half* v_high,
                                           bool contiguous, const float* weights, int head_dim,
                                           int j, float2 (&acc)[kHeads][Pairs]) {
  const int lane = threadIdx.x % 32;
  __half2 value[Step][Pairs];
#pragma unroll
  for (int i = 0; i < Step; ++i) {
    const __half* at = v_low + (j + i) * head_dim;
    if (!contiguous) {
      const auto mine = reinterpret_cast<uint64_t>((j + i) % 2 == 0 ? v_low : v_high);
      at = reinterpret_cast<const __half*>(__shfl_sync(~0U, mine, (j + i) / 2));
    }
#pragma unroll
    for (int pair = 0; pair < Pairs; ++pair) {
      const int d = pair * 64 + 2 * lane;
      value[i][pair] = d < head_dim ? *reinterpret_cast<const __half2*>(at + d) : __half2{};
    }
  }
#pragma unroll
  for (int i = 0; i < Step; ++i) {
#pragma unroll
    for (int head = 0; head < kHeads; ++head) {
      const float weight = weights[head * kBlock + j + i];
#pragma unroll
      for (int pair = 0; pair < Pairs; ++pair) {
        const float2 v = __half22float2(value[i][pair]);
        acc[head][pair].x = fmaf(weight, v.x, acc[head][pair].x);
        acc[head][pair].y = fmaf(weight, v.y, acc[head][pair].y);
      }
    }
  }
}

// Attention of one row, up to kHeads heads of one KV head, over one span of positions. Grid: x =
// row, y = KV head x head tile, z = span. A warp takes one block of 64 logical positions: scores,
// softmax with the block's own maximum, values in position order; the blocks of the span are joined
// in order. A row's blocks and spans depend on its position only, so tree rows and causal rows give
// the same bits. Pairs: (head_dim + 63) / 64. Shared: q [kHeads][head_dim], weights
// [kWarps][kHeads][64], values [kWarps][kHeads][head_dim + 2].
template <int Pairs>
__global__ void __launch_bounds__(32 * kWarps)
    attention_kernel(const __grid_constant__ AttentionArgs args) {
  begin_kernel();
  extern __shared__ float shared[];
  const KvLayout& layout = args.batch.layout;
  const int head_dim = layout.head_dim, group = args.heads / layout.kv_heads;
  const int tiles = (group + kHeads - 1) / kHeads;
  const int row_index = args.first_row + blockIdx.x, span = blockIdx.z;
  const AttentionRow row = args.batch.rows[row_index];
  if (span * kSpan > row.position) return;
  const int kv_head = blockIdx.y / tiles, tile = blockIdx.y % tiles;
  const int first_head = kv_head * group + tile * kHeads,
            heads = min(kHeads, group - tile * kHeads);
  float* q = shared;
  float* weights = q + kHeads * head_dim + threadIdx.x / 32 * kHeads * kBlock;
  float* values = q + kHeads * head_dim + kWarps * kHeads * kBlock;
  const int value_stride = head_dim + 2;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;

  const float* q_row = args.q.data + row_index * args.q.stride + first_head * head_dim;
  for (int i = threadIdx.x; i < kHeads * head_dim; i += 32 * kWarps)
    q[i] = i < heads * head_dim ? q_row[i] : 0.0F;
  __syncthreads();

  const int first = span * kSpan + warp * kBlock;
  const int visible = min(kBlock, row.position + 1 - first);  // of this block
  if (visible > 0) {
    std::byte* const* pages = args.batch.pages + args.batch.first_page[row.sequence];
    const auto* base_k = reinterpret_cast<const __half*>(layout.k_offset(args.layer, kv_head));
    const auto* base_v = reinterpret_cast<const __half*>(layout.v_offset(args.layer, kv_head));
    // Positions past the visible ones read the first one's slot and are masked.
    const int slot_low = slot_of(args.batch, row, first + (2 * lane < visible ? 2 * lane : 0));
    const int slot_high =
        slot_of(args.batch, row, first + (2 * lane + 1 < visible ? 2 * lane + 1 : 0));
    const auto page_at = [&](int slot, const __half* base) {
      return reinterpret_cast<const __half*>(pages[slot / kBlock] +
                                             reinterpret_cast<intptr_t>(base));
    };
    float low[kHeads] = {}, high[kHeads] = {};
    const bool contiguous = first + kBlock <= row.prefix;
    if (contiguous) {
      score<true>(page_at(slot_low, base_k) + 2 * lane, nullptr, q, head_dim, low, high);
    } else {
      score<false>(page_at(slot_low, base_k) + slot_low % kBlock,
                   page_at(slot_high, base_k) + slot_high % kBlock, q, head_dim, low, high);
    }
#pragma unroll
    for (int head = 0; head < kHeads; ++head) {
      const float infinity = __int_as_float(0x7F800000);
      const float a = 2 * lane < visible ? low[head] * args.scale : -infinity;
      const float b = 2 * lane + 1 < visible ? high[head] * args.scale : -infinity;
      const float maximum = warp_max(fmaxf(a, b));
      const float p = 2 * lane < visible ? exp_f32(a - maximum) : 0.0F;
      const float r = 2 * lane + 1 < visible ? exp_f32(b - maximum) : 0.0F;
      const float sum = warp_sum(p + r);
      weights[head * kBlock + 2 * lane] = p;
      weights[head * kBlock + 2 * lane + 1] = r;
      if (lane == 0) {
        values[(warp * kHeads + head) * value_stride] = maximum;
        values[(warp * kHeads + head) * value_stride + 1] = sum;
      }
    }
    __syncwarp();
    float2 acc[kHeads][Pairs] = {};
    constexpr int kStep = Pairs >= 4 ? 8 : 16;
    const __half* v_low = page_at(contiguous ? first : slot_low, base_v);
    const __half* v_high = page_at(slot_high, base_v) + slot_high % kBlock * head_dim;
    if (!contiguous) v_low += slot_low % kBlock * head_dim;
    int j = 0;
    for (; j + kStep <= visible; j += kStep) {
      weigh_step<Pairs, kStep>(v_low, v_high, contiguous, weights, head_dim, j, acc);
    }
    for (; j < visible; ++j)
      weigh_step<Pairs, 1>(v_low, v_high, contiguous, weights, head_dim, j, acc);
#pragma unroll
    for (int head = 0; head < kHeads; ++head) {
#pragma unroll
      for (int pair = 0; pair < Pairs; ++pair) {
        const int d = pair * 64 + 2 * lane;
        if (d >= head_dim) continue;
        float* to = values + (warp * kHeads + head) * value_stride + 2 + d;
        to[0] = acc[head][pair].x;
        to[1] = acc[head][pair].y;
      }
    }
  }
  __syncthreads();

  // Joins the blocks of the span, in position order.
  const int blocks = min(kWarps, (row.position - span * kSpan) / kBlock + 1);
  const bool alone = row.position < kSpan;
  for (int i = threadIdx.x; i < heads * head_dim; i += 32 * kWarps) {
    const int head = i / head_dim, d = i % head_dim;
    float maximum = values[head * value_stride];
    for (int b = 1; b < blocks; ++b)
      maximum = fmaxf(maximum, values[(b * kHeads + head) * value_stride]);
    float sum = 0.0F, value = 0.0F;
    for (int b = 0; b < blocks; ++b) {
      const float* block = values + (b * kHeads + head) * value_stride;
      const float factor = exp_f32(block[0] - maximum);
      sum = fmaf(factor, block[1], sum);
      value = fmaf(factor, block[2 + d], value);
    }
    if (alone) {
      args.out.data[row_index * args.out.stride + (first_head + head) * head_dim + d] = value / sum;
    } else {
      const int64_t at =
          (static_cast<int64_t>(blockIdx.x) * args.heads + first_head + head) * args.spans + span;
      float* to = args.partial + at * value_stride;
      to[2 + d] = value;
      if (d == 0) to[0] = maximum, to[1] = sum;
    }
  }
}

// Joins the spans of rows that have more than one, in order. Grid: x = row, y = head; a thread per
// value.
__global__ void join_kernel(const __grid_constant__ AttentionArgs args) {
  begin_kernel();
  const int head_dim = args.batch.layout.head_dim, row_index = args.first_row + blockIdx.x;
  const int spans = args.batch.rows[row_index].position / kSpan + 1;
  if (spans == 1 || threadIdx.x >= head_dim) return;
  const float* from = args.partial + (static_cast<int64_t>(blockIdx.x) * args.heads + blockIdx.y) *
                                         args.spans * (head_dim + 2);
  float maximum = from[0];
  for (int span = 1; span < spans; ++span)
    maximum = fmaxf(maximum, from[static_cast<int64_t>(span) * (head_dim + 2)]);
  float sum = 0.0F, value = 0.0F;
  for (int span = 0; span < spans; ++span) {
    const float* part = from + static_cast<int64_t>(span) * (head_dim + 2);
    const float factor = exp_f32(part[0] - maximum);
    sum = fmaf(factor, part[1], sum);
    value = fmaf(factor, part[2 + threadIdx.x], value);
  }
  args.out.data[row_index * args.out.stride + blockIdx.y * head_dim + threadIdx.x] = value / sum;
}

// Grid: x = row, y = KV head; a thread per value.
__global__ void store_kernel(DeviceBatch batch, int layer, Tensor k, Tensor v) {
  begin_kernel();
  const int head_dim = batch.layout.head_dim, d = threadIdx.x, head = blockIdx.y;
  if (d >= head_dim) return;
  const AttentionRow row = batch.rows[blockIdx.x];
  std::byte* page = batch.pages[batch.first_page[row.sequence] + row.slot / kBlock];
  const int slot = row.slot % kBlock, at = head * head_dim + d;
  auto* keys = reinterpret_cast<__half*>(page + batch.layout.k_offset(layer, head));
  auto* values = reinterpret_cast<__half*>(page + batch.layout.v_offset(layer, head));
  keys[d * kBlock + slot] = __float2half_rn(k.data[blockIdx.x * k.stride + at]);
  values[slot * head_dim + d] = __float2half_rn(v.data[blockIdx.x * v.stride + at]);
}

// Grid: x = layer, y = KV head; thread d moves value d of every slot, in the order given.
__global__ void move_kernel(KvLayout layout, std::byte* const* pages, const int32_t* from,
                            const int32_t* to, int count) {
  begin_kernel();
  const int d = threadIdx.x;
  if (d >= layout.head_dim) return;
  const int64_t k_offset = layout.k_offset(blockIdx.x, blockIdx.y),
                v_offset = layout.v_offset(blockIdx.x, blockIdx.y);
  for (int i = 0; i < count; ++i) {
    std::byte* source = pages[from[i] / kBlock];
    std::byte* target = pages[to[i] / kBlock];
    const int source_slot = from[i] % kBlock, target_slot = to[i] % kBlock;
    const auto* k = reinterpret_cast<const __half*>(source + k_offset) + d * kBlock + source_slot;
    const auto* v =
        reinterpret_cast<const __half*>(source + v_offset) + source_slot * layout.head_dim + d;
    reinterpret_cast<__half*>(target + k_offset)[d * kBlock + target_slot] = *k;
    reinterpret_cast<__half*>(target + v_offset)[target_slot * layout.head_dim + d] = *v;
  }
}

int round_to_warp(int threads) { return (threads + 31) / 32 * 32; }

}  // namespace

int64_t attention_scratch(const KvLayout& layout, int32_t heads, int32_t max_position) {
  return static_cast<int64_t>(heads) * (max_position / kSpan + 1) * (layout.head_dim + 2);
}

void attention(const DeviceBatch& batch, int32_t layer, Tensor q, float scale, Tensor out,
               const Scratch& scratch, cudaStream_t stream) {
  const KvLayout& layout = batch.layout;
  const int heads = q.cols / layout.head_dim, group = heads / layout.kv_heads;
  const int spans = batch.max_position / kSpan + 1;
  const int tiles = (group + kHeads - 1) / kHeads;
  const int64_t per_row = attention_scratch(layout, heads, batch.max_position);
  const int32_t rows_at_once =
      spans == 1 ? batch.count
                 : static_cast<int32_t>(std::min<int64_t>(batch.count, scratch.floats / per_row));
  if (rows_at_once < 1 && batch.count > 0) {
    throw Error(ErrorKind::kUnsupported,
                "cuda: attention of " + std::to_string(heads) + " heads over " +
                    std::to_string(batch.max_position + 1) + " positions needs " +
                    std::to_string(per_row * 4) + " bytes of scratch, there are " +
                    std::to_string(scratch.floats * 4));
  }
  const size_t shared =
      sizeof(float) * (kHeads * layout.head_dim + kWarps * kHeads * (kBlock + layout.head_dim + 2));
  for (int32_t first = 0; first < batch.count; first += rows_at_once) {
    const int32_t rows = std::min(rows_at_once, batch.count - first);
    const AttentionArgs args{batch, layer, heads, first, spans, scale, q, out, scratch.data};
    const dim3 grid(rows, layout.kv_heads * tiles, spans);
    if (layout.head_dim <= 64) {
      launch("attention_kernel", attention_kernel<1>, grid, 32 * kWarps, shared, stream, args);
    } else if (layout.head_dim <= 128) {
      launch("attention_kernel", attention_kernel<2>, grid, 32 * kWarps, shared, stream, args);
    } else {
      launch("attention_kernel", attention_kernel<4>, grid, 32 * kWarps, shared, stream, args);
    }
    if (spans == 1) continue;
    launch("join_kernel", join_kernel, dim3(rows, heads), round_to_warp(layout.head_dim), 0, stream,
           args);
  }
}

void store_kv(const DeviceBatch& batch, int32_t layer, Tensor k, Tensor v, cudaStream_t stream) {
  const dim3 grid(batch.count, batch.layout.kv_heads);
  launch("store_kernel", store_kernel, grid, round_to_warp(batch.layout.head_dim), 0, stream, batch,
         layer, k, v);
}

void move_kv(const KvLayout& layout, std::byte* const* pages, const int32_t* from,
             const int32_t* to, int32_t count, cudaStream_t stream) {
  const dim3 grid(layout.layers, layout.kv_heads);
  launch("move_kernel", move_kernel, grid, round_to_warp(layout.head_dim), 0, stream, layout, pages,
         from, to, count);
}

}  // namespace forerun::cuda
