#include "backend/cpu/attention.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <string>

#include "backend/cpu/kv_rows.h"
#include "base/error.h"

namespace forerun {
namespace {

constexpr int32_t kSlots = KvLayout::kPageSlots;
constexpr int32_t kTileQueries = 64;
constexpr int64_t kPartialBytes = int64_t{8} << 20;

// Positions of `block` that the row sees, at most 64, perhaps none.
int32_t visible(const AttentionRow& row, int32_t block) {
  return std::clamp(row.position + 1 - block * kSlots, 0, kSlots);
}

// Whether they all lie in the block's own page, each in its own slot.
bool in_place(const AttentionRow& row, int32_t block) {
  return block * kSlots + visible(row, block) <= row.prefix;
}

int32_t slot_of(const AttentionBatch& batch, const AttentionRow& row, int32_t position) {
  if (position < row.prefix) return position;
  return batch.path[static_cast<size_t>(row.path_begin + position - row.prefix)];
}

// Room for the codes of a query.
int64_t code_floats(int32_t head_dim) {
  return head_dim / KvLayout::kScaleBlock * int64_t{sizeof(Activation32) / sizeof(float)};
}

const KvKernels& kv_kernels(const KernelTable& table, DType type) {
  if (type == DType::kF32) return table.kv_f32;
  return type == DType::kQ8_0 ? table.kv_q8_0 : table.kv_f16;
}

const std::byte* page_of(const AttentionBatch& batch, int32_t sequence, int32_t page) {
  return batch.pages[static_cast<size_t>(sequence)][static_cast<size_t>(page)];
}

}  // namespace

void Attention::make_tiles(const Call& call) {
  const auto rows = call.batch->rows;
  const int32_t tile_rows = std::max(1, call.queries / call.group);
  tiles_.clear();
  for (int32_t i = 0; i < static_cast<int32_t>(rows.size()); ++i) {
    const AttentionRow& row = rows[static_cast<size_t>(i)];
    const bool open = !tiles_.empty() && tiles_.back().rows < tile_rows &&
                      rows[static_cast<size_t>(tiles_.back().first_row)].sequence == row.sequence;
    if (!open) tiles_.push_back({i, 0, 0});
    ++tiles_.back().rows;
    tiles_.back().blocks = std::max(tiles_.back().blocks, row.position / kSlots + 1);
  }
}

Attention::Scratch Attention::scratch_of(const Call& call, int thread) const {
  const int64_t outs = int64_t{call.queries} * call.head_dim;
  const int64_t floats = scratch_.bytes() / pool_.size() / static_cast<int64_t>(sizeof(float));
  float* at = reinterpret_cast<float*>(scratch_.data()) + floats * thread;
  Scratch scratch;
  const auto take = [&at](int64_t count) {
    float* part = at;
    at += count;
    return part;
  };
  scratch.scaled = take(outs);
  scratch.codes = reinterpret_cast<Activation32*>(take(call.queries * code_floats(call.head_dim)));
  scratch.scale = reinterpret_cast<uint16_t*>(take(call.head_dim));
  scratch.score = take(int64_t{call.queries} * kSlots);
  scratch.slots = take(int64_t{call.group} * kSlots);
  scratch.block_out = take(outs);
  scratch.total_out = take(outs);
  scratch.block = reinterpret_cast<Partial*>(take(int64_t{2} * call.queries));
  scratch.total = reinterpret_cast<Partial*>(take(int64_t{2} * call.queries));
  return scratch;
}

void Attention::load_queries(const Call& call, const Tile& tile, int32_t head,
                             const Scratch& scratch) const {
  const int32_t width = call.group * call.head_dim;
  for (int32_t row = 0; row < tile.rows; ++row) {
    float* scaled = scratch.scaled + row * width;
    kernels_.scale(call.q.row(tile.first_row + row) + head * width, call.scale, width, scaled);
    if (call.batch->layout.type == DType::kQ8_0) {
      const int32_t blocks = width / KvLayout::kScaleBlock;
      kernels_.quantize_32(scaled, blocks, scratch.codes + row * blocks, 1);
    }
  }
}

ScoreArgs Attention::score_args(const Call& call, const Scratch& scratch, int32_t query,
                                int32_t queries) const {
  ScoreArgs args;
  args.query = scratch.scaled + query * call.head_dim;
  args.codes = scratch.codes + query * (call.head_dim / KvLayout::kScaleBlock);
  args.queries = queries;
  args.head_dim = call.head_dim;
  args.score = scratch.score + query * kSlots;
  return args;
}

// Scores of one row's group in a block whose positions are scattered: page by page, then picked in
// logical order.
void Attention::score_path(const Call& call, const AttentionRow& row, int32_t head, int32_t block,
                           int32_t query, const Scratch& scratch) const {
  const AttentionBatch& batch = *call.batch;
  const int32_t count = visible(row, block);
  int32_t slot[kSlots];
  for (int32_t i = 0; i < count; ++i) slot[i] = slot_of(batch, row, block * kSlots + i);
  uint64_t done = 0;
  for (int32_t i = 0; i < count; ++i) {
    if ((done >> i & 1) != 0) continue;
    const int32_t page = slot[i] / kSlots;
    ScoreArgs args = score_args(call, scratch, query, call.group);
    args.keys = page_of(batch, row.sequence, page) + batch.layout.k_offset(call.layer, head);
    args.score = scratch.slots;
    call.kv->score(args);
    for (int32_t j = i; j < count; ++j) {
      if (slot[j] / kSlots != page) continue;
      done |= uint64_t{1} << j;
      for (int32_t g = 0; g < call.group; ++g)
        scratch.score[(query + g) * kSlots + j] = scratch.slots[g * kSlots + slot[j] % kSlots];
    }
  }
}

// `rows` rows with equally many visible positions, all in place; or one row.
void Attention::weigh_rows(const Call& call, const Tile& tile, int32_t head, int32_t block,
                           int32_t row, int32_t rows, const Scratch& scratch) const {
  const AttentionBatch& batch = *call.batch;
  const AttentionRow& first = row_of(call, tile, row);
  const KvLayout& layout = batch.layout;
  const int64_t offset = layout.v_offset(call.layer, head);
  const int64_t row_bytes = int64_t{call.head_dim} * layout.value_bytes();
  const std::byte* value[kSlots];
  const int32_t count = visible(first, block);
  for (int32_t i = 0; i < count; ++i) {
    const int32_t slot = slot_of(batch, first, block * kSlots + i);
    const std::byte* values = page_of(batch, first.sequence, slot / kSlots) + offset;
    value[i] = values + slot % kSlots * row_bytes;
    const auto* scale = reinterpret_cast<const uint16_t*>(values + layout.scale_offset());
    for (int32_t s = 0; s < layout.scales(); ++s) {
      scratch.scale[s * kSlots + i] = scale[s * kSlots + slot % kSlots];
    }
  }
  const int32_t query = row * call.group;
  WeighArgs args;
  args.weight = scratch.score + query * kSlots;
  args.value = value;
  args.scale = scratch.scale;
  args.queries = rows * call.group;
  args.count = count;
  if (block + 1 < tile.blocks && in_place(first, block)) {
    args.next = page_of(batch, first.sequence, block + 1) + batch.layout.k_offset(call.layer, head);
  }
  args.head_dim = call.head_dim;
  args.out = scratch.block_out + query * call.head_dim;
  call.kv->weigh(args);
}

// block[] and block_out[] of the tile's queries; rows that see nothing of the block are left out.
void Attention::run_block(const Call& call, const Tile& tile, int32_t head, int32_t block,
                          const Scratch& scratch) const {
  const int32_t group = call.group;
  for (int32_t row = 0; row < tile.rows;) {
    const AttentionRow& first = row_of(call, tile, row);
    int32_t end = row + 1;
    if (visible(first, block) > 0 && !in_place(first, block)) {
      score_path(call, first, head, block, row * group, scratch);
    } else if (visible(first, block) > 0) {
      while (end < tile.rows && in_place(row_of(call, tile, end), block)) ++end;
      const std::byte* page = page_of(*call.batch, first.sequence, block);
      ScoreArgs args = score_args(call, scratch, row * group, (end - row) * group);
      args.keys = page + call.batch->layout.k_offset(call.layer, head);
      args.next = page + call.batch->layout.v_offset(call.layer, head);
      call.kv->score(args);
    }
    row = end;
  }
  for (int32_t row = 0; row < tile.rows;) {
    const AttentionRow& first = row_of(call, tile, row);
    const int32_t count = visible(first, block);
    int32_t end = row + 1;
    if (count > 0) {
      const auto alike = [&](const AttentionRow& next) {
        return visible(next, block) == count && in_place(next, block);
      };
      while (in_place(first, block) && end < tile.rows && alike(row_of(call, tile, end))) ++end;
      for (int32_t query = row * group; query < end * group; ++query) {
        scratch.block[query] = kernels_.softmax(scratch.score + query * kSlots, count);
      }
      weigh_rows(call, tile, head, block, row, end - row, scratch);
    }
    row = end;
  }
}

void Attention::combine(const Call& call, const Tile& tile, int32_t block,
                        const Scratch& scratch) const {
  for (int32_t row = 0; row < tile.rows; ++row) {
    if (visible(row_of(call, tile, row), block) == 0) continue;
    for (int32_t query = row * call.group; query < (row + 1) * call.group; ++query) {
      kernels_.combine(scratch.total + query, scratch.total_out + query * call.head_dim,
                       scratch.block + query, scratch.block_out + query * call.head_dim,
                       call.head_dim);
    }
  }
}

void Attention::finish(const Call& call, const Tile& tile, int32_t head,
                       const Scratch& scratch) const {
  for (int32_t query = 0; query < tile.rows * call.group; ++query) {
    float* out = call.out.row(tile.first_row + query / call.group) +
                 (head * call.group + query % call.group) * call.head_dim;
    kernels_.divide(scratch.total_out + query * call.head_dim, scratch.total[query].sum,
                    call.head_dim, out);
  }
}

namespace {

void clear(Partial* total, float* total_out, int32_t queries, int32_t head_dim) {
  std::fill_n(total, queries, Partial{-std::numeric_limits<float>::infinity(), 0.0F});
  std::fill_n(total_out, int64_t{queries} * head_dim, 0.0F);
}

}  // namespace

void Attention::run_tile(const Call& call, const Tile& tile, int32_t head, int thread) const {
  const Scratch scratch = scratch_of(call, thread);
  load_queries(call, tile, head, scratch);
  clear(scratch.total, scratch.total_out, tile.rows * call.group, call.head_dim);
  for (int32_t block = 0; block < tile.blocks; ++block) {
    run_block(call, tile, head, block, scratch);
    combine(call, tile, block, scratch);
  }
  finish(call, tile, head, scratch);
}

// Units of `partials_`: one total per (tile, head), then one partial per (tile, head, block of the
// wave).
bool Attention::run_split(const Call& call) {
  const int32_t heads = call.batch->layout.kv_heads;
  const int64_t works = static_cast<int64_t>(tiles_.size()) * heads;
  int32_t blocks = 0;
  for (const Tile& tile : tiles_) blocks = std::max(blocks, tile.blocks);
  const int64_t unit = int64_t{call.queries} * (call.head_dim + 2);
  const int64_t room = kPartialBytes / static_cast<int64_t>(sizeof(float)) / (unit * works) - 1;
  if (pool_.size() == 1 || works >= 2 * pool_.size() || blocks < 2 || room < 2) return false;
  if (partials_.bytes() == 0) partials_ = PageBlock(kPartialBytes);
  auto* floats = reinterpret_cast<float*>(partials_.data());
  const auto wave = static_cast<int32_t>(std::min<int64_t>(room, blocks));
  const auto place = [&](int64_t index, Partial*& partial, float*& out) {
    partial = reinterpret_cast<Partial*>(floats + index * unit);
    out = floats + index * unit + int64_t{2} * call.queries;
  };
  for (int32_t begin = 0; begin < blocks; begin += wave) {
    std::atomic<int64_t> next{0};
    pool_.share([&](int thread) {
      for (int64_t item = next++; item < works * wave; item = next++) {
        const int64_t work = item % works;
        const Tile& tile = tiles_[static_cast<size_t>(work / heads)];
        const auto head = static_cast<int32_t>(work % heads);
        const auto block = begin + static_cast<int32_t>(item / works);
        if (block >= tile.blocks) continue;
        Scratch scratch = scratch_of(call, thread);
        place(works + item, scratch.block, scratch.block_out);
        load_queries(call, tile, head, scratch);
        run_block(call, tile, head, block, scratch);
      }
    });
    pool_.parallel_for(works, 1, [&](int64_t work) {
      const Tile& tile = tiles_[static_cast<size_t>(work / heads)];
      Scratch scratch = {};
      place(work, scratch.total, scratch.total_out);
      if (begin == 0)
        clear(scratch.total, scratch.total_out, tile.rows * call.group, call.head_dim);
      const int32_t end = std::min(begin + wave, tile.blocks);
      for (int32_t block = begin; block < end; ++block) {
        place(works + (block - begin) * works + work, scratch.block, scratch.block_out);
        combine(call, tile, block, scratch);
      }
      if (begin + wave >= blocks) finish(call, tile, static_cast<int32_t>(work % heads), scratch);
    });
  }
  return true;
}

void Attention::run(const AttentionBatch& batch, int32_t layer, Tensor q, float scale, Tensor out) {
  const KvLayout& layout = batch.layout;
  check_rows(batch);
  check_shape("attention, out", batch, out, q.cols);
  const int32_t heads = q.cols / layout.head_dim;
  check_shape("attention, queries", batch, q, heads * layout.head_dim);
  if (heads < 1 || heads % layout.kv_heads != 0) {
    throw Error(ErrorKind::kBadArgument, "attention: " + std::to_string(heads) +
                                             " query heads do not share " +
                                             std::to_string(layout.kv_heads) + " key heads evenly");
  }
  if (batch.rows.empty()) return;
  Call call;
  call.batch = &batch;
  call.kv = &kv_kernels(kernels_, layout.type);
  call.layer = layer;
  call.q = q;
  call.out = out;
  call.scale = scale;
  call.head_dim = layout.head_dim;
  call.group = heads / layout.kv_heads;
  call.queries = std::max(1, kTileQueries / call.group) * call.group;
  make_tiles(call);
  const int64_t floats =
      int64_t{call.queries} * (3 * call.head_dim + code_floats(call.head_dim) + kSlots + 4) +
      int64_t{call.group} * kSlots + call.head_dim;
  const int64_t bytes =
      (floats * static_cast<int64_t>(sizeof(float)) + 63) / 64 * 64 * pool_.size();
  if (scratch_.bytes() < bytes) scratch_ = PageBlock(bytes);
  if (run_split(call)) return;
  const int64_t works = static_cast<int64_t>(tiles_.size()) * layout.kv_heads;
  std::atomic<int64_t> next{0};
  const auto body = [&](int thread) {
    for (int64_t work = next++; work < works; work = next++) {
      // the last tiles of a prompt are the longest: first
      const Tile& tile = tiles_[tiles_.size() - 1 - static_cast<size_t>(work / layout.kv_heads)];
      run_tile(call, tile, static_cast<int32_t>(work % layout.kv_heads), thread);
    }
  };
  if (works == 1) {
    body(0);
  } else {
    pool_.share(body);
  }
}

}  // namespace forerun
