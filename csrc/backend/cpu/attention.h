#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/memory.h"
#include "base/thread_pool.h"

namespace forerun {

// Attention over paged keys and values. For a row and a head, block b holds the logical positions
// [64 b, 64 b + 64) that the row sees: m_b = max score, p = exp(score - m_b), l_b = sum p, o_b =
// sum p v; the blocks are combined in ascending order by rescaling to the larger maximum (Milakov
// and Gimelshein, arXiv 1805.02867), then out = o / l. That order is the same however rows are
// grouped into tiles and blocks are given to threads.
//
// A tile is some rows of one sequence; with a key head and the query heads that share it, it is a
// piece of work, which reads a block once for all its queries. Threads take whole works, and where
// the works do not divide among them, the blocks of the last ones: these are computed apart, in
// waves that fit a fixed scratch, and combined afterwards. Rows of a draft tree gather the scores
// and values of their last blocks through their path, into logical order.
class Attention {
 public:
  Attention(const KernelTable& kernels, ThreadPool& pool) : kernels_(kernels), pool_(pool) {}

  void reserve(int32_t rows) { tiles_.reserve(static_cast<size_t>(rows)); }
  void run(const AttentionBatch& batch, int32_t layer, Tensor q, float scale, Tensor out);

 private:
  struct Tile {
    int32_t first_row = 0;
    int32_t rows = 0;
    int32_t blocks = 0;
  };
  struct Work {
    const Tile* tile = nullptr;
    int32_t head = 0;  // of the keys
  };
  // Of some queries: weighted sums [queries][head_dim], and what they are divided by.
  struct Result {
    float* out = nullptr;
    Partials part = {nullptr, nullptr};
  };
  // Scratch of one thread; a query is a (row, head of the group) of the tile.
  struct Scratch {
    float* scaled;        // [queries][head_dim], queries times the scale
    Activation32* codes;  // [queries][head_dim / 32], the same for Q8_0 keys
    uint16_t* scale;      // [head_dim / 32][64], of Q8_0 values in logical order
    float* score;         // [queries][64]
    float* slots;         // [group][64], scores by slot
    float *keep, *gain;   // [queries]
    Result total, block;  // `block` has no sums of its own: they go to the total
  };
  // What all tiles of one call share.
  struct Call {
    const AttentionBatch* batch = nullptr;
    const KvKernels* kv = nullptr;
    int32_t layer = 0;
    Tensor q, out;
    float scale = 1.0F;
    int32_t head_dim = 0;
    int32_t group = 0;    // query heads of a key head
    int32_t queries = 0;  // of the largest tile
  };

  void make_tiles(const Call& call);
  Work work_at(const Call& call, int64_t index) const;
  Scratch scratch_of(const Call& call, int thread) const;
  const AttentionRow& row_of(const Call& call, const Work& work, int32_t row) const {
    return call.batch->rows[static_cast<size_t>(work.tile->first_row + row)];
  }
  void load_queries(const Call& call, const Work& work, const Scratch& scratch) const;
  ScoreArgs score_args(const Call& call, const Scratch& scratch, int32_t query,
                       int32_t queries) const;
  void score_block(const Call& call, const Work& work, int32_t block, const Scratch& scratch) const;
  void score_path(const Call& call, const Work& work, int32_t block, int32_t row,
                  const Scratch& scratch) const;
  struct Run {
    int32_t row, rows, count;  // `rows` rows that see `count` positions of a block
  };
  Run run_at(const Call& call, const Work& work, int32_t block, int32_t row) const;
  void weigh_rows(const Call& call, const Work& work, int32_t block, const Run& run,
                  const Scratch& scratch) const;
  void run_block(const Call& call, const Work& work, int32_t block, const Scratch& scratch) const;
  void combine(const Call& call, const Work& work, int32_t block, const Scratch& scratch) const;
  void clear(const Call& call, const Work& work, const Result& total) const;
  void finish(const Call& call, const Work& work, const Result& total) const;
  void run_work(const Call& call, const Work& work, int thread) const;
  void run_works(const Call& call);

  const KernelTable& kernels_;
  ThreadPool& pool_;
  std::vector<Tile> tiles_;
  PageBlock scratch_;   // per thread
  PageBlock partials_;  // of works whose blocks are computed apart
};

}  // namespace forerun
