#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/batch_upload.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/runtime.h"
#include "backend/cuda/staging.h"
#include "backend/cuda/step_graphs.h"

namespace forerun::cuda {

// One GPU, one stream. Operations are queued and return; only download, top_k and choose wait.
// Scratch grows when an operation is larger than all before it (reserve prevents that), never
// shrinks.
class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int device);
  ~CudaBackend() override;

  std::string name() const override { return "cuda:" + std::to_string(device_); }
  std::string description() const override { return description_; }
  cudaStream_t stream() const { return stream_.get(); }

  Buffer allocate(int64_t bytes) override;
  // Any thread may free while another records a sequence, of which a release on its stream would
  // become a part: so what is freed is released by the next allocation.
  void free(void* data, int64_t bytes) noexcept override;
  void upload(void* device, const void* host, int64_t bytes) override;
  void download(void* host, const void* device, int64_t bytes) override;
  void upload_halves(float* device, std::span<const uint16_t> host) override;
  void download_halves(std::span<uint16_t> host, const float* device) override;
  void copy(void* to, const void* from, int64_t bytes) override;
  void synchronize() override;
  bool host_visible() const override { return false; }

  std::unique_ptr<Weight> pack(const HostMatrix& matrix) override;
  void reserve(int32_t max_rows, int32_t max_cols) override;

  void sequence(const std::function<void()>& work) override;
  const StepGraphs& graphs() const { return graphs_; }

  void linear(Tensor x, std::span<const LinearTask> tasks) override;
  void rms_norm(Tensor x, const float* weight, float epsilon, Tensor out) override;
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
  int32_t most_top_k() const override;
  bool can_choose(const TokenDraw& draw, int32_t vocab) const override;
  void choose(Tensor logits, std::span<const TokenDraw> draws, std::span<int32_t> tokens) override;

 private:
  void release(void* data) noexcept;
  void release_freed() noexcept;
  void use() const;                             // makes this device the calling thread's
  void use_alone(const char* operation) const;  // ... for what cannot be part of a sequence
  DeviceBatch put_batch(const AttentionBatch& batch);
  QuantizedRows quantized(Tensor x, bool super);
  const int32_t* put_indices(std::span<const int32_t> rows);
  void grow(DeviceMemory& memory, int64_t bytes, const char* purpose);
  void bring(void* host, const void* device, int64_t bytes);
  const uint64_t* ranked(Tensor x, int32_t k);  // keys, [rows][k], the largest first
  void linear_of(DType dtype, const QuantizedRows& x, std::span<const LinearTask> tasks);

  int device_;
  std::string description_;
  Stream stream_;
  cudaMemPool_t pool_ = nullptr;  // the device's default one; nullptr where it has none
  std::mutex freed_mutex_;
  std::vector<void*> freed_;  // released by the next allocation
  Staging staging_;
  PinnedMemory bounce_;  // for downloads
  BatchUpload batch_;
  DeviceMemory file_blocks_;  // a matrix as the file has it, while it is packed
  DeviceMemory codes_, scales_, sums_;
  DeviceMemory attention_, indices_, keys_, choices_, halves_;
  std::vector<RowChoice> choices_on_host_;
  StepGraphs graphs_;
  int64_t indices_used_ = 0;   // bytes, by the calls of a sequence
  bool batch_placed_ = false;  // by one of them
};

}  // namespace forerun::cuda
