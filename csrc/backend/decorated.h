#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "backend/backend.h"

namespace forerun {

// A back end that does what another does and knows what every operation of a forward has to read
// and to compute: what profiles and simulated devices stand on. Names are those of the operations;
// products bear the role of their first task. Bytes of a product are those of its weights, of
// attention those of the visible keys and values, of the others their operands as fp32.
class DecoratedBackend : public Backend {
 public:
  explicit DecoratedBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  std::string name() const override { return inner_->name(); }
  std::string description() const override { return inner_->description(); }
  int threads() const override { return inner_->threads(); }
  void bind_thread() override { inner_->bind_thread(); }
  TraceRecorder* recorder() const override { return inner_->recorder(); }

  Buffer allocate(int64_t bytes) override { return inner_->allocate(bytes); }
  void free(void* data, int64_t bytes) noexcept override { inner_->free(data, bytes); }
  void upload(void* device, const void* host, int64_t bytes) override {
    moved(bytes, [&] { inner_->upload(device, host, bytes); });
  }
  void download(void* host, const void* device, int64_t bytes) override {
    moved(bytes, [&] { inner_->download(host, device, bytes); });
  }
  void upload_halves(float* device, std::span<const uint16_t> host) override {
    moved(bytes_of(host), [&] { inner_->upload_halves(device, host); });
  }
  void download_halves(std::span<uint16_t> host, const float* device) override {
    moved(bytes_of(host), [&] { inner_->download_halves(host, device); });
  }
  void copy(void* to, const void* from, int64_t bytes) override { inner_->copy(to, from, bytes); }
  void synchronize() override { inner_->synchronize(); }
  bool host_visible() const override { return inner_->host_visible(); }
  std::unique_ptr<Weight> pack(const HostMatrix& matrix) override { return inner_->pack(matrix); }
  void reserve(int32_t max_rows, int32_t max_cols) override { inner_->reserve(max_rows, max_cols); }

  void linear(Tensor x, std::span<const LinearTask> tasks) override {
    int64_t bytes = 0, outputs = 0;
    for (const LinearTask& task : tasks) {
      bytes += task.weight->bytes;
      outputs += task.weight->rows;
    }
    timed({tasks.empty() ? "linear" : tasks[0].role, x.rows, bytes, 2 * values_of(x) * outputs},
          [&] { inner_->linear(x, tasks); });
  }
  void gated_linear(Tensor x, const LinearTask& gate, const LinearTask& up) override {
    const int64_t outputs = int64_t{gate.weight->rows} + up.weight->rows;
    timed({gate.role, x.rows, gate.weight->bytes + up.weight->bytes, 2 * values_of(x) * outputs},
          [&] { inner_->gated_linear(x, gate, up); });
  }
  void rms_norm(Tensor x, const float* weight, float epsilon, Tensor out) override {
    timed({"rms_norm", x.rows, 2 * bytes_of(x), 4 * values_of(x)},
          [&] { inner_->rms_norm(x, weight, epsilon, out); });
  }
  void add_rms_norm(Tensor x, Tensor y, const float* weight, float epsilon, Tensor out) override {
    timed({"add_rms_norm", x.rows, 4 * bytes_of(x), 5 * values_of(x)},
          [&] { inner_->add_rms_norm(x, y, weight, epsilon, out); });
  }
  void head_norm(Tensor x, int32_t heads, const float* weight, float epsilon) override {
    timed({"head_norm", x.rows, 2 * bytes_of(x), 4 * values_of(x)},
          [&] { inner_->head_norm(x, heads, weight, epsilon); });
  }
  void rope(Tensor x, int32_t heads, Tensor cos_sin, bool interleaved) override {
    timed({"rope", x.rows, 2 * bytes_of(x), 3 * values_of(x)},
          [&] { inner_->rope(x, heads, cos_sin, interleaved); });
  }
  void check_kv(const KvLayout& layout) const override { inner_->check_kv(layout); }
  void store_kv(const AttentionBatch& batch, int32_t layer, Tensor k, Tensor v) override {
    timed(
        {"store_kv", k.rows, bytes_of(k) + bytes_of(v) + k.rows * position_bytes(batch.layout), 0},
        [&] { inner_->store_kv(batch, layer, k, v); });
  }
  // A sequence's keys and values are read once for all its rows; a product with keys and one with
  // values per visible position.
  void attention(const AttentionBatch& batch, int32_t layer, Tensor q, float scale,
                 Tensor out) override {
    int64_t read = 0, seen = 0;
    int32_t slots = 0;
    for (size_t i = 0; i < batch.rows.size(); ++i) {
      const AttentionRow& row = batch.rows[i];
      seen += row.position + 1;
      slots = std::max(slots, row.slot + 1);
      if (i + 1 < batch.rows.size() && batch.rows[i + 1].sequence == row.sequence) continue;
      read += std::exchange(slots, 0);
    }
    timed({"attention", q.rows, read * position_bytes(batch.layout), 4 * seen * q.cols},
          [&] { inner_->attention(batch, layer, q, scale, out); });
  }
  void swiglu(Tensor gate, Tensor up, Tensor out) override {
    timed({"swiglu", gate.rows, 3 * bytes_of(gate), 4 * values_of(gate)},
          [&] { inner_->swiglu(gate, up, out); });
  }
  void add(Tensor x, Tensor y) override {
    timed({"add", x.rows, 3 * bytes_of(x), values_of(x)}, [&] { inner_->add(x, y); });
  }
  void blend(Tensor gate, Tensor a, Tensor b, Tensor out) override {
    timed({"blend", gate.rows, 4 * bytes_of(gate), 6 * values_of(gate)},
          [&] { inner_->blend(gate, a, b, out); });
  }
  void gather_rows(Tensor x, std::span<const int32_t> rows, Tensor out) override {
    timed({"gather_rows", out.rows, 2 * bytes_of(out), 0},
          [&] { inner_->gather_rows(x, rows, out); });
  }
  void move_kv(const KvLayout& layout, std::span<std::byte* const> pages,
               std::span<const int32_t> from, std::span<const int32_t> to) override {
    const auto rows = static_cast<int32_t>(from.size());
    timed({"move_kv", rows, 2 * rows * layout.layers * position_bytes(layout), 0},
          [&] { inner_->move_kv(layout, pages, from, to); });
  }
  void top_k(Tensor x, int32_t k, std::span<int32_t> ids, std::span<float> values) override {
    timed({"top_k", x.rows, bytes_of(x), values_of(x)}, [&] { inner_->top_k(x, k, ids, values); });
  }
  int32_t most_top_k() const override { return inner_->most_top_k(); }
  bool can_choose(const TokenDraw& draw, int32_t vocab) const override {
    return inner_->can_choose(draw, vocab);
  }
  void choose(Tensor logits, std::span<const TokenDraw> draws, std::span<int32_t> tokens) override {
    timed({"choose", logits.rows, bytes_of(logits), values_of(logits)},
          [&] { inner_->choose(logits, draws, tokens); });
  }

 protected:
  struct Work {
    const char* name;
    int32_t rows;
    int64_t bytes, operations;
  };
  // A call of the inner back end, without owning anything.
  class Call {
   public:
    template <typename Body>
    explicit Call(Body& body)
        : run_([](void* object) { (*static_cast<Body*>(object))(); }), object_(&body) {}
    void operator()() const { run_(object_); }

   private:
    void (*run_)(void*);
    void* object_;
  };
  virtual void around(const Work& work, Call call) = 0;  // of an operation
  // Of a copy between host and device.
  virtual void around_copy(int64_t bytes, Call call) {
    (void)bytes;
    call();
  }
  Backend& inner() { return *inner_; }

 private:
  static int64_t values_of(const Tensor& x) { return int64_t{x.rows} * x.cols; }
  static int64_t bytes_of(const Tensor& x) {
    return values_of(x) * static_cast<int64_t>(sizeof(float));
  }
  static int64_t bytes_of(std::span<const uint16_t> halves) {
    return static_cast<int64_t>(halves.size_bytes());
  }
  // Keys and values of one position in one layer.
  static int64_t position_bytes(const KvLayout& layout) {
    return layout.page_bytes() / (int64_t{layout.layers} * KvLayout::kPageSlots);
  }
  template <typename Body>
  void timed(const Work& work, Body&& body) {
    around(work, Call(body));
  }
  template <typename Body>
  void moved(int64_t bytes, Body&& body) {
    around_copy(bytes, Call(body));
  }

  std::unique_ptr<Backend> inner_;
};

}  // namespace forerun
