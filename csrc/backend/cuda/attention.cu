#include <cuda_fp16.h>

#include <algorithm>
#include <string>

#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/kv_cells.cuh"
#include "backend/cuda/launch.h"
#include "base/error.h"

namespace forerun::cuda {
namespace {

constexpr int kBlock = KvLayout::kPageSlots;  // logical positions of a block
constexpr int kWarps = 4;
constexpr int kSpan = kSpanPositions;
static_assert(kSpan == kBlock * kWarps);
constexpr int kHeads = 4;  // query heads of a warp, all of one KV head

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

// Scores of positions 2 l and 2 l + 1 of the block, one chain over head_dim. Contiguous: both lie
// side by side in one page, so that one load brings both.
template <DType T, bool Contiguous, int Step>
__device__ __forceinline__ void score_step(KeyAt first, KeyAt second, const float* q, int head_dim,
                                           int d, float (&low)[kHeads], float (&high)[kHeads]) {
  float2 key[Step];
  KvCells<T>::template keys<Contiguous, Step>(first, second, head_dim, d, key);
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

template <DType T, bool Contiguous>
__device__ __forceinline__ void score(KeyAt first, KeyAt second, const float* q, int head_dim,
                                      float (&low)[kHeads], float (&high)[kHeads]) {
  constexpr int kStep = 32;  // loads in flight
  int d = 0;
  for (; d + kStep <= head_dim; d += kStep)
    score_step<T, Contiguous, kStep>(first, second, q, head_dim, d, low, high);
  if constexpr (!KvCells<T>::kScaled) {  // with scales head_dim is a multiple of kStep
    for (; d < head_dim; ++d)
      score_step<T, Contiguous, 1>(first, second, q, head_dim, d, low, high);
  }
}

__device__ __forceinline__ const std::byte* shuffled(const std::byte* mine, int lane) {
  return reinterpret_cast<const std::byte*>(
      __shfl_sync(~0U, reinterpret_cast<uint64_t>(mine), lane));
}

// acc += weight * value of Step positions from j on. low, high: where the values of the lane's two
// positions lie; contiguous: all values of the block lie in one page, from low of lane 0 on.
template <DType T, int Pairs, int Step>
__device__ __forceinline__ void weigh_step(ValuesAt low, ValuesAt high, bool contiguous,
                                           const float* weights, int head_dim, int j,
                                           float2 (&acc)[kHeads][Pairs]) {
  using Cells = KvCells<T>;
  const int lane = threadIdx.x % 32;
  typename Cells::Pair value[Step][Pairs];
#pragma unroll
  for (int i = 0; i < Step; ++i) {
    ValuesAt at{low.values + (j + i) * head_dim * Cells::kBytes, low.scales + 2 * (j + i)};
    if (!contiguous) {
      const ValuesAt mine = (j + i) % 2 == 0 ? low : high;
      at.values = shuffled(mine.values, (j + i) / 2);
      if constexpr (Cells::kScaled) at.scales = shuffled(mine.scales, (j + i) / 2);
    }
#pragma unroll
    for (int pair = 0; pair < Pairs; ++pair) {
      const int d = pair * 64 + 2 * lane;
      value[i][pair] = d < head_dim ? Cells::pair(at, d) : typename Cells::Pair{};
    }
  }
#pragma unroll
  for (int i = 0; i < Step; ++i) {
#pragma unroll
    for (int head = 0; head < kHeads; ++head) {
      const float weight = weights[head * kBlock + j + i];
#pragma unroll
      for (int pair = 0; pair < Pairs; ++pair) {
        const float2 v = Cells::floats(value[i][pair]);
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
template <DType T, int Pairs>
__global__ void __launch_bounds__(32 * kWarps)
    attention_kernel(const __grid_constant__ AttentionArgs args) {
  begin_kernel();
  auto* shared = shared_memory<float>();
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
    const int64_t k_offset = layout.k_offset(args.layer, kv_head);
    const int64_t v_offset = layout.v_offset(args.layer, kv_head);
    // Positions past the visible ones read the first one's slot and are masked.
    const int slot_low = slot_of(args.batch, row, first + (2 * lane < visible ? 2 * lane : 0));
    const int slot_high =
        slot_of(args.batch, row, first + (2 * lane + 1 < visible ? 2 * lane + 1 : 0));
    const auto key_at = [&](int slot) {
      return KeyAt{pages[slot / kBlock] + k_offset, slot % kBlock};
    };
    const auto values_of = [&](int slot) {
      return values_at<T>(pages[slot / kBlock] + v_offset, head_dim, slot % kBlock);
    };
    float low[kHeads] = {}, high[kHeads] = {};
    const bool contiguous = first + kBlock <= row.prefix;
    if (contiguous) {
      score<T, true>(key_at(slot_low), {}, q, head_dim, low, high);
    } else {
      score<T, false>(key_at(slot_low), key_at(slot_high), q, head_dim, low, high);
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
    const ValuesAt v_low = values_of(contiguous ? first : slot_low), v_high = values_of(slot_high);
    int j = 0;
    for (; j + kStep <= visible; j += kStep) {
      weigh_step<T, Pairs, kStep>(v_low, v_high, contiguous, weights, head_dim, j, acc);
    }
    for (; j < visible; ++j)
      weigh_step<T, Pairs, 1>(v_low, v_high, contiguous, weights, head_dim, j, acc);
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

// The values of a row as they are kept: v as its type, or the code of v among the 32 of its warp.
template <DType T>
__device__ __forceinline__ void store_value(float v, int d, std::byte* value, std::byte* scales) {
  if constexpr (T == DType::kF16) {
    *reinterpret_cast<__half*>(value) = __float2half_rn(v);
  } else if constexpr (T == DType::kF32) {
    *reinterpret_cast<float*>(value) = v;
  } else {
    uint32_t most = magnitude_bits(v);
    for (int step = 1; step < 32; step *= 2) most = max(most, __shfl_xor_sync(~0U, most, step));
    const BlockScale scale = block_scale(most);
    *reinterpret_cast<int8_t*>(value) = static_cast<int8_t>(quantize(v, scale.inverse));
    if (d % 32 == 0) reinterpret_cast<__half*>(scales)[d / 32 * kBlock] = __float2half_rn(scale.d);
  }
}

// Grid: x = row, y = KV head; a thread per value.
template <DType T>
__global__ void store_kernel(DeviceBatch batch, int layer, Tensor k, Tensor v) {
  begin_kernel();
  const KvLayout& layout = batch.layout;
  const int head_dim = layout.head_dim, d = threadIdx.x, head = blockIdx.y;
  if (d >= head_dim) return;
  const AttentionRow row = batch.rows[blockIdx.x];
  std::byte* page = batch.pages[batch.first_page[row.sequence] + row.slot / kBlock];
  const int slot = row.slot % kBlock, at = head * head_dim + d;
  std::byte* keys = page + layout.k_offset(layer, head);
  std::byte* values = page + layout.v_offset(layer, head);
  const int bytes = layout.value_bytes();
  // Four codes of a key lie together.
  const int cell = T == DType::kQ8_0 ? (d / 4 * kBlock + slot) * 4 + d % 4 : d * kBlock + slot;
  const int64_t scales = layout.scale_offset() + 2 * slot;
  store_value<T>(k.data[blockIdx.x * k.stride + at], d, keys + cell * bytes, keys + scales);
  store_value<T>(v.data[blockIdx.x * v.stride + at], d, values + (slot * head_dim + d) * bytes,
                 values + scales);
}

template <typename Cell>
__device__ __forceinline__ void move_cell(std::byte* to, int64_t to_index, const std::byte* from,
                                          int64_t from_index) {
  reinterpret_cast<Cell*>(to)[to_index] = reinterpret_cast<const Cell*>(from)[from_index];
}

// Grid: x = layer, y = KV head; thread d moves value d of every slot, in the order given. Key: what
// lies together of a key, a value or four codes; Value: of a value.
template <typename Key, typename Value>
__global__ void move_kernel(KvLayout layout, std::byte* const* pages, const int32_t* from,
                            const int32_t* to, int count) {
  begin_kernel();
  const int d = threadIdx.x, head_dim = layout.head_dim;
  const int keys = head_dim * layout.value_bytes() / static_cast<int>(sizeof(Key));
  const int64_t k = layout.k_offset(blockIdx.x, blockIdx.y),
                v = layout.v_offset(blockIdx.x, blockIdx.y);
  for (int i = 0; i < count; ++i) {
    const std::byte* source = pages[from[i] / kBlock];
    std::byte* target = pages[to[i] / kBlock];
    const int old_slot = from[i] % kBlock, slot = to[i] % kBlock;
    if (d < keys) move_cell<Key>(target + k, d * kBlock + slot, source + k, d * kBlock + old_slot);
    if (d < head_dim)
      move_cell<Value>(target + v, slot * head_dim + d, source + v, old_slot * head_dim + d);
    if (d < layout.scales()) {
      const int64_t scales = layout.scale_offset();
      for (const int64_t block : {k + scales, v + scales})
        move_cell<uint16_t>(target + block, d * kBlock + slot, source + block,
                            d * kBlock + old_slot);
    }
  }
}

// Calls f with a std::integral_constant of the type of a cache.
template <typename F>
void with_kv_type(DType type, const F& f) {
  if (type == DType::kF32) return f(std::integral_constant<DType, DType::kF32>());
  if (type == DType::kQ8_0) return f(std::integral_constant<DType, DType::kQ8_0>());
  f(std::integral_constant<DType, DType::kF16>());
}

template <DType T>
void launch_attention(const AttentionArgs& args, dim3 grid, size_t shared, cudaStream_t stream) {
  const int head_dim = args.batch.layout.head_dim;
  const auto run = [&](auto kernel) {
    launch("attention_kernel", kernel, grid, 32 * kWarps, shared, stream, args);
  };
  if (head_dim <= 64) return run(attention_kernel<T, 1>);
  if (head_dim <= 128) return run(attention_kernel<T, 2>);
  run(attention_kernel<T, 4>);
}

int round_to_warp(int threads) { return (threads + 31) / 32 * 32; }

}  // namespace

int64_t attention_scratch(const KvLayout& layout, int32_t heads, int32_t spans) {
  return static_cast<int64_t>(heads) * spans * (layout.head_dim + 2);
}

void attention(const DeviceBatch& batch, int32_t layer, Tensor q, float scale, Tensor out,
               const Scratch& scratch, cudaStream_t stream) {
  const KvLayout& layout = batch.layout;
  const int heads = q.cols / layout.head_dim, group = heads / layout.kv_heads;
  const int spans = batch.spans;
  const int tiles = (group + kHeads - 1) / kHeads;
  const int64_t per_row = attention_scratch(layout, heads, spans);
  const int32_t rows_at_once =
      spans == 1 ? batch.count
                 : static_cast<int32_t>(std::min<int64_t>(batch.count, scratch.floats / per_row));
  if (rows_at_once < 1 && batch.count > 0) {
    throw Error(ErrorKind::kUnsupported, "cuda: attention of " + std::to_string(heads) +
                                             " heads over " + std::to_string(spans * kSpan) +
                                             " positions needs " + std::to_string(per_row * 4) +
                                             " bytes of scratch, there are " +
                                             std::to_string(scratch.floats * 4));
  }
  const size_t shared =
      sizeof(float) * (kHeads * layout.head_dim + kWarps * kHeads * (kBlock + layout.head_dim + 2));
  for (int32_t first = 0; first < batch.count; first += rows_at_once) {
    const int32_t rows = std::min(rows_at_once, batch.count - first);
    const AttentionArgs args{batch, layer, heads, first, spans, scale, q, out, scratch.data};
    const dim3 grid(rows, layout.kv_heads * tiles, spans);
    with_kv_type(layout.type,
                 [&](auto type) { launch_attention<type.value>(args, grid, shared, stream); });
    if (spans == 1) continue;
    launch("join_kernel", join_kernel, dim3(rows, heads), round_to_warp(layout.head_dim), 0, stream,
           args);
  }
}

void store_kv(const DeviceBatch& batch, int32_t layer, Tensor k, Tensor v, cudaStream_t stream) {
  const dim3 grid(batch.count, batch.layout.kv_heads);
  with_kv_type(batch.layout.type, [&](auto type) {
    launch("store_kernel", store_kernel<type.value>, grid, round_to_warp(batch.layout.head_dim), 0,
           stream, batch, layer, k, v);
  });
}

void move_kv(const KvLayout& layout, std::byte* const* pages, const int32_t* from,
             const int32_t* to, int32_t count, cudaStream_t stream) {
  const dim3 grid(layout.layers, layout.kv_heads);
  const auto run = [&](auto kernel) {
    launch("move_kernel", kernel, grid, round_to_warp(layout.head_dim), 0, stream, layout, pages,
           from, to, count);
  };
  if (layout.type == DType::kF16) return run(move_kernel<uint16_t, uint16_t>);
  if (layout.type == DType::kF32) return run(move_kernel<uint32_t, uint32_t>);
  run(move_kernel<uint32_t, uint8_t>);
}

}  // namespace forerun::cuda
