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
constexpr int32_t kTileQueries = 192;  // whose scratch fits the second-level cache
constexpr int64_t kAlign = 64;         // bytes: of a thread's scratch, its codes first
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

Partials from(const Partials& part, int32_t query) { return {part.max + query, part.sum + query}; }

const std::byte* page_of(const AttentionBatch& batch, int32_t sequence, int32_t page) {
  return batch.pages[static_cast<size_t>(sequence)][static_cast<size_t>(page)];
}

}  // namespace

// Rows of a sequence in tiles of about the same height.
void Attention::make_tiles(const Call& call) {
  const auto rows = call.batch->rows;
  const int32_t most = std::max(1, kTileQueries / call.group);
  tiles_.clear();
  for (size_t first = 0; first < rows.size();) {
    size_t end = first + 1;
    while (end < rows.size() && rows[end].sequence == rows[first].sequence) ++end;
    const auto count = static_cast<int32_t>(end - first);
    const int32_t tiles = (count + most - 1) / most;
    for (int32_t i = 0; i < tiles; ++i) {
      Tile tile;
      const int32_t begin = count * i / tiles;
      tile.first_row = static_cast<int32_t>(first) + begin;
      tile.rows = count * (i + 1) / tiles - begin;
      for (int32_t row = 0; row < tile.rows; ++row) {
        const AttentionRow& one = rows[static_cast<size_t>(tile.first_row + row)];
        tile.blocks = std::max(tile.blocks, one.position / kSlots + 1);
      }
      tiles_.push_back(tile);
    }
    first = end;
  }
}

Attention::Work Attention::work_at(const Call& call, int64_t index) const {
  const int64_t heads = call.batch->layout.kv_heads;
  return {&tiles_[static_cast<size_t>(index / heads)], static_cast<int32_t>(index % heads)};
}

Attention::Scratch Attention::scratch_of(const Call& call, int thread) const {
  const int64_t outs = int64_t{call.queries} * call.head_dim;
  const int64_t bytes = scratch_.bytes() / pool_.size() / kAlign * kAlign;
  float* at = reinterpret_cast<float*>(scratch_.data() + bytes * thread);
  Scratch scratch;
  const auto take = [&at](int64_t count) {
    float* part = at;
    at += count;
    return part;
  };
  scratch.codes = reinterpret_cast<Activation32*>(take(call.queries * code_floats(call.head_dim)));
  scratch.scaled = take(outs);
  scratch.total.out = take(outs);
  scratch.score = take(int64_t{call.queries} * kSlots);
  scratch.slots = take(int64_t{call.group} * kSlots);
  scratch.scale = reinterpret_cast<uint16_t*>(take(call.head_dim));
  for (float** values : {&scratch.keep, &scratch.gain, &scratch.total.part.max,
                         &scratch.total.part.sum, &scratch.block.part.max, &scratch.block.part.sum})
    *values = take(call.queries);
  return scratch;
}

void Attention::load_queries(const Call& call, const Work& work, const Scratch& scratch) const {
  const int32_t width = call.group * call.head_dim;
  for (int32_t row = 0; row < work.tile->rows; ++row) {
    float* scaled = scratch.scaled + row * width;
    const float* query = call.q.row(work.tile->first_row + row) + work.head * width;
    kernels_.scale(query, call.scale, width, scaled);
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
void Attention::score_path(const Call& call, const Work& work, int32_t block, int32_t row,
                           const Scratch& scratch) const {
  const AttentionBatch& batch = *call.batch;
  const AttentionRow& one = row_of(call, work, row);
  const int32_t query = row * call.group;
  const int32_t count = visible(one, block);
  int32_t slot[kSlots];
  for (int32_t i = 0; i < count; ++i) slot[i] = slot_of(batch, one, block * kSlots + i);
  uint64_t done = 0;
  for (int32_t i = 0; i < count; ++i) {
    if ((done >> i & 1) != 0) continue;
    const int32_t page = slot[i] / kSlots;
    ScoreArgs args = score_args(call, scratch, query, call.group);
    args.keys = page_of(batch, one.sequence, page) + batch.layout.k_offset(call.layer, work.head);
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

void Attention::score_block(const Call& call, const Work& work, int32_t block,
                            const Scratch& scratch) const {
  const KvLayout& layout = call.batch->layout;
  for (int32_t row = 0; row < work.tile->rows;) {
    const AttentionRow& first = row_of(call, work, row);
    int32_t end = row + 1;
    if (visible(first, block) > 0 && !in_place(first, block)) {
      score_path(call, work, block, row, scratch);
    } else if (visible(first, block) > 0) {
      while (end < work.tile->rows && in_place(row_of(call, work, end), block)) ++end;
      const std::byte* page = page_of(*call.batch, first.sequence, block);
      ScoreArgs args = score_args(call, scratch, row * call.group, (end - row) * call.group);
      args.keys = page + layout.k_offset(call.layer, work.head);
      args.next = page + layout.v_offset(call.layer, work.head);
      call.kv->score(args);
    }
    row = end;
  }
}

// The rows from `row` on that see the same positions of a block, all in place; or one row.
Attention::Run Attention::run_at(const Call& call, const Work& work, int32_t block,
                                 int32_t row) const {
  const AttentionRow& first = row_of(call, work, row);
  Run run = {row, 1, visible(first, block)};
  if (!in_place(first, block)) return run;
  for (int32_t next = row + 1; next < work.tile->rows; ++next, ++run.rows) {
    const AttentionRow& other = row_of(call, work, next);
    if (visible(other, block) != run.count || !in_place(other, block)) break;
  }
  return run;
}

// Adds the block to the total of the run's queries, or leaves it in `block` if that has room.
void Attention::weigh_rows(const Call& call, const Work& work, int32_t block, const Run& run,
                           const Scratch& scratch) const {
  const AttentionBatch& batch = *call.batch;
  const AttentionRow& first = row_of(call, work, run.row);
  const KvLayout& layout = batch.layout;
  const int64_t offset = layout.v_offset(call.layer, work.head);
  const int64_t row_bytes = int64_t{call.head_dim} * layout.value_bytes();
  const std::byte* value[kSlots];
  for (int32_t i = 0; i < run.count; ++i) {
    const int32_t slot = slot_of(batch, first, block * kSlots + i);
    const std::byte* values = page_of(batch, first.sequence, slot / kSlots) + offset;
    value[i] = values + slot % kSlots * row_bytes;
    const auto* scale = reinterpret_cast<const uint16_t*>(values + layout.scale_offset());
    for (int32_t s = 0; s < layout.scales(); ++s) {
      scratch.scale[s * kSlots + i] = scale[s * kSlots + slot % kSlots];
    }
  }
  const int32_t query = run.row * call.group;
  WeighArgs args;
  args.weight = scratch.score + query * kSlots;
  args.value = value;
  args.scale = scratch.scale;
  args.queries = run.rows * call.group;
  args.count = run.count;
  if (block + 1 < work.tile->blocks && in_place(first, block)) {
    args.next = page_of(batch, first.sequence, block + 1) + layout.k_offset(call.layer, work.head);
  }
  args.head_dim = call.head_dim;
  const Partials part = from(scratch.block.part, query);
  kernels_.softmax(scratch.score + query * kSlots, args.queries, run.count, part);
  if (scratch.block.out != nullptr) {
    args.out = scratch.block.out + query * call.head_dim;
  } else {
    kernels_.merge(args.queries, from(scratch.total.part, query), part, scratch.keep + query,
                   scratch.gain + query);
    args.keep = scratch.keep + query;
    args.gain = scratch.gain + query;
    args.out = scratch.total.out + query * call.head_dim;
  }
  call.kv->weigh(args);
}

// Rows that see nothing of the block are left out.
void Attention::run_block(const Call& call, const Work& work, int32_t block,
                          const Scratch& scratch) const {
  score_block(call, work, block, scratch);
  for (int32_t row = 0; row < work.tile->rows;) {
    const Run run = run_at(call, work, block, row);
    if (run.count > 0) weigh_rows(call, work, block, run, scratch);
    row += run.rows;
  }
}

// Adds what run_block left in `block` to the total.
void Attention::combine(const Call& call, const Work& work, int32_t block,
                        const Scratch& scratch) const {
  for (int32_t row = 0; row < work.tile->rows; ++row) {
    if (visible(row_of(call, work, row), block) == 0) continue;
    const int32_t first = row * call.group;
    kernels_.merge(call.group, from(scratch.total.part, first), from(scratch.block.part, first),
                   scratch.keep, scratch.gain);
    for (int32_t g = 0; g < call.group; ++g) {
      const int64_t at = int64_t{first + g} * call.head_dim;
      kernels_.rescale(scratch.total.out + at, scratch.block.out + at, call.head_dim,
                       scratch.keep[g], scratch.gain[g]);
    }
  }
}

void Attention::clear(const Call& call, const Work& work, const Result& total) const {
  const int32_t queries = work.tile->rows * call.group;
  std::fill_n(total.part.max, queries, -std::numeric_limits<float>::infinity());
  std::fill_n(total.part.sum, queries, 0.0F);
  std::fill_n(total.out, int64_t{queries} * call.head_dim, 0.0F);
}

void Attention::finish(const Call& call, const Work& work, const Result& total) const {
  for (int32_t query = 0; query < work.tile->rows * call.group; ++query) {
    float* out = call.out.row(work.tile->first_row + query / call.group) +
                 (work.head * call.group + query % call.group) * call.head_dim;
    kernels_.divide(total.out + query * call.head_dim, total.part.sum[query], call.head_dim, out);
  }
}

void Attention::run_work(const Call& call, const Work& work, int thread) const {
  const Scratch scratch = scratch_of(call, thread);
  load_queries(call, work, scratch);
  clear(call, work, scratch.total);
  for (int32_t block = 0; block < work.tile->blocks; ++block) {
    run_block(call, work, block, scratch);
  }
  finish(call, work, scratch.total);
}

// Units of `partials_`: a total of each split work, then one result per (block of the wave, split
// work).
void Attention::run_works(const Call& call) {
  const int64_t works = static_cast<int64_t>(tiles_.size()) * call.batch->layout.kv_heads;
  const int64_t left = works < int64_t{4} * pool_.size() ? works % pool_.size() : 0;
  const int64_t unit = int64_t{call.queries} * (call.head_dim + 2);
  const int64_t room = kPartialBytes / static_cast<int64_t>(sizeof(float)) / unit;
  int32_t blocks = 0;
  for (const Tile& tile : tiles_) blocks = std::max(blocks, tile.blocks);
  const bool splits = blocks > 1 && left > 0 && room >= 3 * left;
  const int64_t split = splits ? left : 0, whole = works - split;
  const auto wave = static_cast<int32_t>(splits ? std::min<int64_t>(room / left - 1, blocks) : 0);
  if (splits && partials_.bytes() == 0) partials_ = PageBlock(kPartialBytes);
  const auto place = [&](int64_t index) {
    float* at = reinterpret_cast<float*>(partials_.data()) + index * unit;
    return Result{at + int64_t{2} * call.queries, {at, at + call.queries}};
  };
  for (int32_t begin = 0; begin < blocks; begin += splits ? wave : blocks) {
    const int64_t first = begin == 0 ? whole : 0;
    std::atomic<int64_t> next{0};
    const auto body = [&](int thread) {
      for (int64_t item = next++; item < first + split * wave; item = next++) {
        if (item < first) {  // the last tiles of a prompt are the longest: first
          run_work(call, work_at(call, first - 1 - item), thread);
          continue;
        }
        const int64_t part = item - first;
        const Work work = work_at(call, whole + part % split);
        const auto block = begin + static_cast<int32_t>(part / split);
        if (block >= work.tile->blocks) continue;
        Scratch scratch = scratch_of(call, thread);
        scratch.block = place(split + part);
        load_queries(call, work, scratch);
        run_block(call, work, block, scratch);
      }
    };
    if (works == 1 && !splits) {
      body(0);
    } else {
      pool_.share(body);
    }
    if (!splits) return;
    next = 0;
    pool_.share([&](int thread) {
      for (int64_t index = next++; index < split; index = next++) {
        const Work work = work_at(call, whole + index);
        Scratch scratch = scratch_of(call, thread);
        scratch.total = place(index);
        if (begin == 0) clear(call, work, scratch.total);
        const int32_t end = std::min(begin + wave, work.tile->blocks);
        for (int32_t block = begin; block < end; ++block) {
          scratch.block = place(split + (block - begin) * split + index);
          combine(call, work, block, scratch);
        }
        if (begin + wave >= blocks) finish(call, work, scratch.total);
      }
    });
  }
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
  call.queries = std::clamp(kTileQueries / call.group, 1, q.rows) * call.group;
  make_tiles(call);
  const int64_t floats =
      int64_t{call.queries} * (2 * call.head_dim + code_floats(call.head_dim) + kSlots + 6) +
      int64_t{call.group} * kSlots + call.head_dim;
  const int64_t bytes =
      (floats * static_cast<int64_t>(sizeof(float)) + kAlign - 1) / kAlign * kAlign * pool_.size();
  if (scratch_.bytes() < bytes) scratch_ = PageBlock(bytes);
  run_works(call);
}

}  // namespace forerun
