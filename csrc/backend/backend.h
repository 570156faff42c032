#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/tensor.h"
#include "base/dtype.h"
#include "base/error.h"

namespace forerun {

class TraceRecorder;

// A weight matrix in the file's form, on the host: `rows` outputs of `cols` inputs, row-major
// blocks.
struct HostMatrix {
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;
};

// A weight matrix in a back end's own layout. Immutable after Backend::pack.
class Weight {
 public:
  virtual ~Weight() = default;
  DType dtype = DType::kF32;
  int32_t rows = 0;   // outputs
  int32_t cols = 0;   // inputs
  int64_t bytes = 0;  // read by one matmul
};

// out = x * weight^T (+ bias). All tasks of one Backend::linear share x.
struct LinearTask {
  const Weight* weight = nullptr;
  const float* bias = nullptr;  // [outputs] or nullptr
  Tensor out;                   // [rows, outputs]
  const char* role = "linear";  // what profiles call it; static text
};

// Where keys and values of a page lie. A page holds 64 slots for every layer of its cache. K of a
// (layer, head) is transposed, so that lanes are slots and a score is one chain over head_dim:
//   F16, F32  K [head_dim][64]            V [64][head_dim]
//   Q8_0      K [head_dim / 4][64][4] s8, then d [head_dim / 32][64] half: x = d code
//             V [64][head_dim] s8, then d [head_dim / 32][64] half
// 32 values of a head's row share a scale, as in a Q8_0 block (base/blocks.h): what is stored of a
// row depends on that row only. A score does not depend on its slot, so a tree node reads its
// ancestors wherever they lie (exactness contract).
struct KvLayout {
  static constexpr int32_t kPageSlots = 64;
  static constexpr int32_t kScaleBlock = 32;
  int32_t layers = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  DType type = DType::kF16;  // F16, F32 or Q8_0

  bool operator==(const KvLayout&) const = default;
  constexpr int32_t value_bytes() const {
    return type == DType::kQ8_0 ? 1 : type == DType::kF32 ? 4 : 2;
  }
  constexpr int32_t scales() const { return type == DType::kQ8_0 ? head_dim / kScaleBlock : 0; }
  // of the first scale in a block
  constexpr int64_t scale_offset() const { return int64_t{kPageSlots} * head_dim * value_bytes(); }
  constexpr int64_t block_bytes() const {
    return scale_offset() + int64_t{2} * kPageSlots * scales();
  }
  constexpr int64_t page_bytes() const { return int64_t{2} * layers * kv_heads * block_bytes(); }
  constexpr int64_t k_offset(int32_t layer, int32_t head) const {
    return (int64_t{2} * layer * kv_heads + head) * block_bytes();
  }
  constexpr int64_t v_offset(int32_t layer, int32_t head) const {
    return (int64_t{2} * layer * kv_heads + kv_heads + head) * block_bytes();
  }
};

// What attention needs to know of a batch row. The row sees logical positions [0, position]:
// position p < prefix lies in slot p, the others in path[p - prefix] (ancestors in the draft tree,
// the row itself last; of a row in a span, whose position is the span's end, all rows of it). A
// causal row has prefix = position + 1 and no path.
struct AttentionRow {
  int32_t sequence = 0;  // index into AttentionBatch::pages
  int32_t position = 0;
  int32_t slot = 0;  // where this row's own K and V are written
  int32_t prefix = 0;
  int32_t path_begin = 0;  // into AttentionBatch::path, position + 1 - prefix entries
};

struct AttentionBatch {
  KvLayout layout;
  std::span<const AttentionRow> rows;  // in sequence order
  std::span<const int32_t> path;       // slots
  std::span<const std::span<std::byte* const>>
      pages;  // per sequence: slot s is column s % 64 of pages[s / 64]
};

// How the token after a row of logits is chosen where neither history nor bias plays a part
// (verify/sampler.h has the formula).
struct TokenDraw {
  uint64_t seed = 0;
  int64_t position = 0;       // of the token, for its noise
  float temperature = 0.0F;   // 0: the largest logit
  float least_scaled = 0.0F;  // min-p: (logit - best) / temperature of a token that is kept
  int32_t top_k = 0;          // 0: all
  float top_p = 1.0F;

  // Draws from a list of the best tokens; else from all of them, or all that top-p keeps.
  constexpr bool ranked(int32_t vocab) const {
    return temperature != 0.0F && top_k > 0 && top_k < vocab;
  }
  constexpr bool top_p_of_all(int32_t vocab) const {
    return temperature != 0.0F && !ranked(vocab) && top_p < 1.0F;
  }
};

// A device: memory, packed weights and about a dozen operations on fp32 rows. The rules of the
// exactness contract
// (../README.md) hold for every implementation: the bits of a row depend neither on the other rows
// of the call nor on the number of threads. Not thread-safe: one forward at a time (the engine's
// step lock).
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;         // "cpu", "cpu:0-3", "cuda:0"
  virtual std::string description() const = 0;  // for people: kernels, threads, device name
  virtual int threads() const { return 1; }
  // The calling thread is the one that hands it work from now on, and moves to its cores.
  virtual void bind_thread() {}
  virtual TraceRecorder* recorder() const { return nullptr; }  // of one that profiles (profiler.h)

  // --- memory
  // -----------------------------------------------------------------------------------------------
  virtual Buffer allocate(
      int64_t bytes) = 0;  // 64-byte aligned, zeroed; Error(kOutOfMemory) with the size
  virtual void free(void* data, int64_t bytes) noexcept = 0;
  virtual void upload(void* device, const void* host, int64_t bytes) = 0;
  virtual void download(void* host, const void* device, int64_t bytes) = 0;  // waits for the result
  // The same of floats that cross as half floats, half the bytes: rounded to the nearest, beyond
  // the largest half to that one.
  virtual void upload_halves(float* device, std::span<const uint16_t> host) = 0;
  virtual void download_halves(std::span<uint16_t> host, const float* device) = 0;
  virtual void copy(void* to, const void* from, int64_t bytes) = 0;  // within the device
  virtual void synchronize() = 0;                                    // waits for all operations
  virtual bool host_visible() const = 0;  // a host pointer can read device memory

  // --- load
  // -------------------------------------------------------------------------------------------------
  virtual std::unique_ptr<Weight> pack(
      const HostMatrix& matrix) = 0;  // Error(kUnsupported) naming the type
  virtual void reserve(int32_t max_rows,
                       int32_t max_cols) = 0;  // scratch, so that steps do not allocate

  // Runs `work`: operations of this back end that bring nothing to the host, no copies and no
  // move_kv among them, and attention over one batch. A back end may learn it and later do it as a
  // whole, calling `work` once or more; the operations give what they give one by one.
  virtual void sequence(const std::function<void()>& work) { work(); }

  // --- operations: x, out are [rows, cols]
  // ------------------------------------------------------------------
  virtual void linear(Tensor x, std::span<const LinearTask> tasks) = 0;
  // gate.out = silu(x * gate) * (x * up); what is left in up.out is undefined.
  virtual void gated_linear(Tensor x, const LinearTask& gate, const LinearTask& up) {
    const LinearTask tasks[] = {gate, up};
    linear(x, tasks);
    swiglu(gate.out, up.out, gate.out);
  }
  virtual void rms_norm(Tensor x, const float* weight, float epsilon,
                        Tensor out) = 0;  // out may be x
  // x += y, then rms_norm into out, which is neither
  virtual void add_rms_norm(Tensor x, Tensor y, const float* weight, float epsilon, Tensor out) {
    add(x, y);
    rms_norm(x, weight, epsilon, out);
  }
  // The same over each head of [rows, heads * head_dim], in place (Qwen3's q and k norm); weight
  // [head_dim].
  virtual void head_norm(Tensor x, int32_t heads, const float* weight, float epsilon) = 0;
  // Rotates the first `rotary` values of each head, in place. cos_sin: [rows, rotary], cosines then
  // sines. interleaved: pairs are (2i, 2i + 1), else (i, i + rotary / 2).
  virtual void rope(Tensor x, int32_t heads, Tensor cos_sin, bool interleaved) = 0;
  // Error(kUnsupported) naming the type if this back end does not hold such a cache.
  virtual void check_kv(const KvLayout& layout) const = 0;
  virtual void store_kv(const AttentionBatch& batch, int32_t layer, Tensor k, Tensor v) = 0;
  // q, out: [rows, heads * head_dim]; heads a multiple of kv_heads; scores are multiplied by
  // `scale`.
  virtual void attention(const AttentionBatch& batch, int32_t layer, Tensor q, float scale,
                         Tensor out) = 0;
  virtual void swiglu(Tensor gate, Tensor up, Tensor out) = 0;  // silu(gate) * up; out may be gate
  virtual void add(Tensor x, Tensor y) = 0;                     // x += y
  // b + sigmoid(gate) (a - b); out may be one of them
  virtual void blend(Tensor gate, Tensor a, Tensor b, Tensor out) = 0;
  virtual void gather_rows(Tensor x, std::span<const int32_t> rows, Tensor out) = 0;
  // Moves slot `from[i]` to `to[i]` in all layers, in this order; the pages of one sequence
  // (KvCache::commit).
  virtual void move_kv(const KvLayout& layout, std::span<std::byte* const> pages,
                       std::span<const int32_t> from, std::span<const int32_t> to) = 0;
  // The k largest of each row, largest first, ties to the lowest id; NaN counts as -inf. Results on
  // the host.
  virtual void top_k(Tensor x, int32_t k, std::span<int32_t> ids, std::span<float> values) = 0;
  virtual int32_t most_top_k() const { return std::numeric_limits<int32_t>::max(); }
  // Whether choose() has such draws from rows of `vocab` logits; if not, the host reads the logits.
  virtual bool can_choose(const TokenDraw& draw, int32_t vocab) const {
    (void)draw, (void)vocab;
    return false;
  }
  // tokens[i]: what draws[i] chooses from row i, the very token of the sampler on the host. Results
  // on the host; Error(kUnsupported) for draws that it does not have.
  virtual void choose(Tensor logits, std::span<const TokenDraw> draws, std::span<int32_t> tokens) {
    (void)logits, (void)draws, (void)tokens;
    throw Error(ErrorKind::kUnsupported, name() + ": choose: it does not have such a draw");
  }
};

// threads: 0 = the cores this process may use, or those of `cores`. cores: a set such as "0-3,6" to
// which its threads keep; "" leaves them to the system. Error(kUnsupported) when the CPU lacks
// AVX2, FMA or F16C and FORERUN_ISA does not say scalar.
std::unique_ptr<Backend> make_cpu_backend(int threads, const std::string& cores = "");

// Which kernels multiply by weights of a type on this CPU, measured: up to `rows` rows (0: any
// number above the entry before it). In the order of the types, then of the rows.
struct KernelUse {
  DType type = DType::kF32;
  int32_t rows = 0;
  std::string kernel;
};
FORERUN_API std::vector<KernelUse> cpu_kernel_uses(int threads);

// GB/s of a read of `bytes` per thread with the widest loads, the best of a few passes (forerun
// doctor, bench).
FORERUN_API double measure_read_bandwidth(int threads, int64_t bytes_per_thread);

// The CUDA back end comes from libforerun_cuda.so, loaded when it is asked for
// (backend/cuda_loader.cpp).
struct CudaStatus {
  bool available = false;
  std::string text;  // device name, or why not
};
FORERUN_API CudaStatus cuda_status();
std::unique_ptr<Backend> make_cuda_backend(int device);  // Error(kUnsupported) with the reason

}  // namespace forerun
