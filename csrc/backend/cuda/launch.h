#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backend/backend.h"

namespace forerun::cuda {

// The launchers: raw pointers, sizes and a stream; every one checks its launch. All arithmetic is
// row by row, in an order that does not depend on the number of rows.

// Activations as int8, quantised per 256 inputs (for K types) or per 32 (for the others), in the
// order in which the matrix instruction reads them. `padded` is the rows rounded up to 64; inputs
// are padded with zeros to 256.
struct QuantizedRows {
  std::byte* codes = nullptr;  // [inputs / 64][padded][64], see activation_offset
  float* scale =
      nullptr;  // per 256: [inputs / 256][padded]; per 32: [inputs / 32][padded][2], d and d * sum
  int16_t* sums = nullptr;  // per 256: [inputs / 256][padded][8], sums of the codes of each 32
  int32_t rows = 0;
  int32_t padded = 0;
};
void quantize_rows(Tensor x, bool super, const QuantizedRows& out, cudaStream_t stream);

constexpr int kMaxTasks = 4;

// Up to kMaxTasks matrices of one type that share the activations, as one launch.
struct MatrixTask {
  const std::byte* data = nullptr;  // packed
  const float* bias = nullptr;
  float* out = nullptr;
  int64_t stride = 0;
  int32_t outputs = 0;
  int32_t first_panel = 0;
};
struct MatrixTasks {
  MatrixTask task[kMaxTasks];
  int32_t count = 0;
  int32_t panels = 0;
  int32_t units = 0;
};

int64_t packed_record(DType dtype);  // bytes of a record, 0 for types without a packed layout
int32_t packed_unit(DType dtype);    // inputs per record
bool packed_super(DType dtype);      // activations quantised per 256
void pack_blocks(DType dtype, const void* file, int32_t outputs, int32_t inputs, void* packed,
                 cudaStream_t stream);
void linear_quantized(DType dtype, const QuantizedRows& x, const MatrixTasks& tasks,
                      cudaStream_t stream);

// Weights kept as F32, F16 or BF16, [outputs][stride] with zeros after the last input.
struct FloatMatrix {
  const void* data = nullptr;
  const float* bias = nullptr;
  int32_t outputs = 0;
  int32_t inputs = 0;
  int32_t stride = 0;  // a multiple of 8
};
void linear_float(DType dtype, const FloatMatrix& weight, Tensor x, Tensor out,
                  cudaStream_t stream);

void rms_norm(Tensor x, int32_t parts, const float* weight, float epsilon, Tensor out,
              cudaStream_t stream);
void rope(Tensor x, int32_t heads, Tensor cos_sin, bool interleaved, cudaStream_t stream);
void widen(const uint16_t* halves, Tensor out, cudaStream_t stream);  // out: one row
void narrow(Tensor x, uint16_t* halves, cudaStream_t stream);         // x: one row
void swiglu(Tensor gate, Tensor up, Tensor out, cudaStream_t stream);
void add(Tensor x, Tensor y, cudaStream_t stream);
void blend(Tensor gate, Tensor a, Tensor b, Tensor out, cudaStream_t stream);
void gather_rows(Tensor x, const int32_t* rows, Tensor out,
                 cudaStream_t stream);  // out.rows indices, on the device

constexpr int32_t kSpanPositions = 256;  // that a block of attention threads reads

// An AttentionBatch on the device.
struct DeviceBatch {
  KvLayout layout;
  const AttentionRow* rows = nullptr;
  const int32_t* path = nullptr;
  const int32_t* first_page = nullptr;  // per sequence, into pages
  std::byte* const* pages = nullptr;
  int32_t count = 0;
  int32_t spans = 0;  // of kSpanPositions, up to the last position of any row
};
void store_kv(const DeviceBatch& batch, int32_t layer, Tensor k, Tensor v, cudaStream_t stream);
void move_kv(const KvLayout& layout, std::byte* const* pages, const int32_t* from,
             const int32_t* to, int32_t count, cudaStream_t stream);

constexpr int32_t kMaxHeadDim = 256;

struct Scratch {
  float* data = nullptr;
  int64_t floats = 0;
};
int64_t attention_scratch(const KvLayout& layout, int32_t heads, int32_t spans);  // floats per row
void attention(const DeviceBatch& batch, int32_t layer, Tensor q, float scale, Tensor out,
               const Scratch& scratch, cudaStream_t stream);

constexpr int32_t kMaxTopK = 1024;
// keys: two buffers of top_k_keys(cols, k) each per row; the sorted keys of row r end up at result
// + r * k.
int64_t top_k_keys(int32_t cols, int32_t k);
const uint64_t* top_k(Tensor x, int32_t k, uint64_t* first, uint64_t* second, cudaStream_t stream);

// One row of logits, whose token is chosen: keys as top_k's.
struct RowChoice {
  TokenDraw draw;
  uint64_t best = 0;    // of the largest logit
  uint64_t least = 0;   // that a kept token reaches
  uint64_t winner = 0;  // id of the token that has won the race
  int32_t decided = 0;  // by judge_top_p: it is the token that is chosen
};
// Top-k, and top-p among its tokens. keys: [count][k], k at least every draw's top_k, the largest
// first.
void cut_ranked(RowChoice* rows, int32_t count, const uint64_t* keys, int32_t k, int32_t vocabulary,
                cudaStream_t stream);
void find_best(Tensor logits, RowChoice* rows, cudaStream_t stream);
// Among the tokens that reach `least`, of the rows that are not decided.
void race(Tensor logits, RowChoice* rows, cudaStream_t stream);
// Decides on the winners. One that top-p over the whole vocabulary drops goes, with all that rank
// after it: the race is to be run again.
void judge_top_p(Tensor logits, RowChoice* rows, std::byte* scratch, cudaStream_t stream);
int64_t top_p_scratch(int32_t vocabulary);  // bytes per row

}  // namespace forerun::cuda
