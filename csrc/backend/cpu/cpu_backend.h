#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/kernel_choice.h"
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/kv_rows.h"
#include "backend/cpu/memory.h"
#include "base/cpu_features.h"
#include "base/thread_pool.h"

namespace forerun {

// The kernels of a machine: `tiles` multiplies where that is faster, or is nullptr.
struct CpuKernels {
  const char* name;
  const KernelTable& table;
  const MatmulTable* tiles = nullptr;
};

CpuKernels kernels_of(Isa isa);

// The CPU back end: memory is the host's, kernels come from the tables of one instruction set,
// threads from one pool. Work is split over outputs, rows and heads, never inside a sum, so the
// number of threads does not change a bit.
class CpuBackend final : public Backend {
 public:
  // cores: where its threads run; empty: anywhere
  CpuBackend(int threads, const CpuKernels& kernels, std::vector<int> cores = {});

  std::string name() const override;
  void bind_thread() override;
  std::string description() const override;
  int threads() const override { return pool_.size(); }
  KernelChoice& choice() { return choice_; }

  Buffer allocate(int64_t bytes) override;
  void free(void* data, int64_t bytes) noexcept override;
  void upload(void* device, const void* host, int64_t bytes) override;
  void download(void* host, const void* device, int64_t bytes) override;
  void copy(void* to, const void* from, int64_t bytes) override;
  void synchronize() override {}
  bool host_visible() const override { return true; }

  std::unique_ptr<Weight> pack(const HostMatrix& matrix) override;
  void reserve(int32_t max_rows, int32_t max_cols) override;

  void linear(Tensor x, std::span<const LinearTask> tasks) override;
  void gated_linear(Tensor x, const LinearTask& gate, const LinearTask& up) override;
  void rms_norm(Tensor x, const float* weight, float epsilon, Tensor out) override;
  void add_rms_norm(Tensor x, Tensor y, const float* weight, float epsilon, Tensor out) override;
  void head_norm(Tensor x, int32_t heads, const float* weight, float epsilon) override;
  void rope(Tensor x, int32_t heads, Tensor cos_sin, bool interleaved) override;
  void check_kv(const KvLayout& layout) const override;
  void store_kv(const AttentionBatch& batch, int32_t layer, Tensor k, Tensor v) override;
  void attention(const AttentionBatch& batch, int32_t layer, Tensor q, float scale,
                 Tensor out) override;
  void swiglu(Tensor gate, Tensor up, Tensor out) override;
  void add(Tensor x, Tensor y) override;
  void blend(Tensor gate, Tensor a, Tensor b, Tensor out) override;
  void gather_rows(Tensor x, std::span<const int32_t> rows, Tensor out) override;
  void move_kv(const KvLayout& layout, std::span<std::byte* const> pages,
               std::span<const int32_t> from, std::span<const int32_t> to) override;
  void top_k(Tensor x, int32_t k, std::span<int32_t> ids, std::span<float> values) override;

 private:
  struct Candidate {
    float value;
    int32_t id;
  };

  // Grows to at least `bytes`, contents lost.
  static void ensure(PageBlock& block, int64_t bytes);
  static bool before(const Candidate& a, const Candidate& b);
  void quantize_for(Tensor x, std::span<const LinearTask> tasks);
  void multiply(Tensor x, const LinearTask& task, int32_t first, int32_t panels,
                const uint8_t* next);

  // Rows in parallel where there is enough work for it.
  template <typename Body>
  void each_row(int32_t rows, int64_t values_per_row, Body&& body) {
    pool_.parallel_for(rows, int64_t{rows} * values_per_row < kSerialValues ? rows : 1, body);
  }
  static constexpr int64_t kSerialValues = 16384;  // below this a region costs more than it saves

  const char* isa_;
  std::vector<int> cores_;
  const KernelTable& kernels_;
  ThreadPool pool_;
  KernelChoice choice_;
  KvRows kv_rows_;
  Attention attention_;
  PageBlock activation_k_;
  PageBlock activation_32_;
  std::vector<Candidate> candidates_;  // top_k, [rows][k]
  PageArena weights_;
  std::mutex memory_mutex_;  // over the three below
  PageArena arena_;
  std::unordered_map<void*, PagePiece> given_;                 // by allocate
  std::unordered_map<int64_t, std::vector<PagePiece>> spare_;  // given back, by size
};

}  // namespace forerun
