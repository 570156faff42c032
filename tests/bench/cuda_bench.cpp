// What the CUDA kernels reach on this GPU, as one JSON line:
//   copy_gbs      device-to-device copy, bytes read plus bytes written
//   linear        Q4_K matrices of 7B models: for every number of rows the time of quantisation and
//   product, the
//                 fraction of copy_gbs and the ratio to one row; the matrices rotate, so that none
//                 stays in the cache
//   steps         a whole forward of random weights: `graph_us` replayed as a CUDA graph,
//   `queued_us` launch by launch
// Times are medians. Usage: cuda_bench [--quick] [--linear | --steps]
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/packed_layout.h"
#include "backend/cuda/test_data.h"
#include "base/error.h"

namespace forerun::cuda {
namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Microseconds of one replay of `work`, captured as a graph.
class Replay {
 public:
  Replay(cudaStream_t stream, const std::function<void()>& work) : stream_(stream) {
    cudaGraph_t graph = nullptr;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin a capture");
    work();
    check(cudaStreamEndCapture(stream, &graph), "end the capture");
    check(cudaGraphInstantiate(&executable_, graph, 0), "instantiate the graph");
    cudaGraphDestroy(graph);
  }
  ~Replay() { cudaGraphExecDestroy(executable_); }
  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;

  double microseconds(int repeats) const {
    const Event begin(cudaEventDefault), end(cudaEventDefault);
    std::vector<double> times;
    for (int i = 0; i < repeats + 2; ++i) {
      begin.record(stream_);
      check(cudaGraphLaunch(executable_, stream_), "launch the graph");
      end.record(stream_);
      end.wait();
      float ms = 0.0F;
      check(cudaEventElapsedTime(&ms, begin.get(), end.get()), "read the time");
      if (i >= 2) times.push_back(1000.0 * ms);
    }
    return median(times);
  }

 private:
  cudaStream_t stream_;
  cudaGraphExec_t executable_ = nullptr;
};

double copy_bandwidth(cudaStream_t stream) {
  constexpr int64_t kBytes = int64_t{1} << 30;
  const DeviceMemory from(kBytes, "copy"), to(kBytes, "copy");
  const Replay copy(stream, [&] {
    check(cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, stream),
          "copy");
  });
  return 2.0 * kBytes / copy.microseconds(50) / 1e3;
}

// One packed matrix of random codes, `copies` times.
std::vector<std::unique_ptr<Weight>> matrices(CudaBackend& backend, DType dtype, int64_t rows,
                                              int64_t cols, int copies) {
  const auto matrix = cuda_test::random_matrix(dtype, 16, cols, 3);
  std::vector<std::byte> bytes(static_cast<size_t>(dtype_bytes(dtype, rows * cols)));
  for (size_t at = 0; at < bytes.size(); at += matrix.bytes.size()) {
    std::memcpy(bytes.data() + at, matrix.bytes.data(),
                std::min(matrix.bytes.size(), bytes.size() - at));
  }
  std::vector<std::unique_ptr<Weight>> out;
  for (int i = 0; i < copies; ++i) out.push_back(backend.pack({dtype, rows, cols, bytes.data()}));
  return out;
}

struct Floats {
  Floats(CudaBackend& backend, int64_t rows, int64_t cols, float spread = 1.0F)
      : buffer(backend.allocate(rows * cols * 4)),
        tensor(buffer.floats(), static_cast<int32_t>(rows), static_cast<int32_t>(cols)) {
    const auto values = cuda_test::random_floats(rows * cols, 5, spread);
    backend.upload(buffer.data(), values.data(), rows * cols * 4);
  }
  Buffer buffer;
  Tensor tensor;
};

void bench_linear(CudaBackend& backend, int64_t rows, int64_t cols, double copy_gbs, bool quick) {
  constexpr int64_t kWorkingSet = int64_t{400} << 20;  // well past the cache of any GPU
  const int64_t bytes = rows * cols / 256 * 144;
  const int copies = static_cast<int>(std::clamp<int64_t>(kWorkingSet / bytes, 2, 40));
  const auto weights = matrices(backend, DType::kQ4_K, rows, cols, copies);
  const Floats x(backend, 64, cols), out(backend, 64, rows);
  double one = 0.0;
  std::printf("{\"outputs\": %lld, \"inputs\": %lld, \"rows\": {", static_cast<long long>(rows),
              static_cast<long long>(cols));
  for (const int32_t count : {1, 2, 4, 8, 16, 32, 64}) {
    const auto work = [&] {
      for (const auto& weight : weights) {
        const LinearTask task{weight.get(), nullptr, out.tensor.first_rows(count)};
        backend.linear(x.tensor.first_rows(count), {&task, 1});
      }
    };
    work();
    const double time = Replay(backend.stream(), work).microseconds(quick ? 5 : 15) / copies;
    if (count == 1) one = time;
    std::printf("%s\"%d\": {\"us\": %.2f, \"fraction\": %.3f, \"ratio\": %.2f}",
                count == 1 ? "" : ", ", count, time,
                static_cast<double>(weights[0]->bytes) / time / 1e3 / copy_gbs, time / one);
  }
  std::printf("}}");
}

struct Shape {
  const char* name;
  DType dtype;
  int32_t layers, width, heads, kv_heads, head_dim, ffn, vocabulary, context;
};

// A decoder of random weights: the calls of Model::forward, without tokens.
class Decoder {
 public:
  Decoder(CudaBackend& backend, const Shape& shape, int32_t max_rows)
      : backend_(backend),
        shape_(shape),
        layout_{shape.layers, shape.kv_heads, shape.head_dim},
        x_(backend, max_rows, shape.width),
        normed_(backend, max_rows, shape.width),
        q_(backend, max_rows, shape.heads * shape.head_dim),
        k_(backend, max_rows, shape.kv_heads * shape.head_dim),
        v_(backend, max_rows, shape.kv_heads * shape.head_dim),
        attended_(backend, max_rows, shape.heads * shape.head_dim),
        gate_(backend, max_rows, shape.ffn),
        up_(backend, max_rows, shape.ffn),
        angles_(backend, max_rows, shape.head_dim, 0.5F),
        logits_(backend, 64, shape.vocabulary),
        norm_(backend, 1, shape.width) {
    const auto add = [&](int64_t rows, int64_t cols, int copies) {
      auto made = matrices(backend, shape.dtype, rows, cols, copies);
      for (const auto& weight : made) weight_bytes_ += weight->bytes;
      return made;
    };
    q_weight_ = add(shape.heads * shape.head_dim, shape.width, shape.layers);
    k_weight_ = add(shape.kv_heads * shape.head_dim, shape.width, shape.layers);
    v_weight_ = add(shape.kv_heads * shape.head_dim, shape.width, shape.layers);
    o_weight_ = add(shape.width, shape.heads * shape.head_dim, shape.layers);
    gate_weight_ = add(shape.ffn, shape.width, shape.layers);
    up_weight_ = add(shape.ffn, shape.width, shape.layers);
    down_weight_ = add(shape.width, shape.ffn, shape.layers);
    head_ = add(shape.vocabulary, shape.width, 1);
    backend.reserve(max_rows, std::max({shape.ffn, shape.width, shape.heads * shape.head_dim}));
    for (int32_t slot = 0; slot < shape.context + max_rows; slot += KvLayout::kPageSlots) {
      memory_.push_back(backend.allocate(layout_.page_bytes()));
      pages_.push_back(static_cast<std::byte*>(memory_.back().data()));
    }
    span_ = pages_;
  }

  // Tree rows after the context (a chain), or a causal chunk from position 0.
  void prepare(int32_t count, bool causal) {
    rows_.clear();
    path_.clear();
    for (int32_t i = 0; i < count; ++i) {
      if (causal) {
        rows_.push_back({0, i, i, i + 1, 0});
      } else {
        rows_.push_back({0, shape_.context + i, shape_.context + i, shape_.context,
                         static_cast<int32_t>(path_.size())});
        for (int32_t j = 0; j <= i; ++j) path_.push_back(shape_.context + j);
      }
    }
  }

  void forward() {
    const auto count = static_cast<int32_t>(rows_.size());
    const auto of = [count](const Floats& floats) { return floats.tensor.first_rows(count); };
    const AttentionBatch batch{layout_, rows_, path_, {&span_, 1}};
    const float scale = 1.0F / 11.3F;
    for (size_t layer = 0; layer < q_weight_.size(); ++layer) {
      backend_.rms_norm(of(x_), norm_.tensor.data, 1e-5F, of(normed_));
      const std::array<LinearTask, 3> qkv{{{q_weight_[layer].get(), nullptr, of(q_)},
                                           {k_weight_[layer].get(), nullptr, of(k_)},
                                           {v_weight_[layer].get(), nullptr, of(v_)}}};
      backend_.linear(of(normed_), qkv);
      backend_.rope(of(q_), shape_.heads, of(angles_), false);
      backend_.rope(of(k_), shape_.kv_heads, of(angles_), false);
      backend_.store_kv(batch, static_cast<int32_t>(layer), of(k_), of(v_));
      backend_.attention(batch, static_cast<int32_t>(layer), of(q_), scale, of(attended_));
      const LinearTask o{o_weight_[layer].get(), nullptr, of(normed_)};
      backend_.linear(of(attended_), {&o, 1});
      backend_.add(of(x_), of(normed_));
      backend_.rms_norm(of(x_), norm_.tensor.data, 1e-5F, of(normed_));
      const std::array<LinearTask, 2> gate_up{{{gate_weight_[layer].get(), nullptr, of(gate_)},
                                               {up_weight_[layer].get(), nullptr, of(up_)}}};
      backend_.linear(of(normed_), gate_up);
      backend_.swiglu(of(gate_), of(up_), of(gate_));
      const LinearTask down{down_weight_[layer].get(), nullptr, of(normed_)};
      backend_.linear(of(gate_), {&down, 1});
      backend_.add(of(x_), of(normed_));
    }
    const int32_t logit_rows = std::min(count, 64);
    const LinearTask head{head_[0].get(), nullptr, logits_.tensor.first_rows(logit_rows)};
    backend_.linear(normed_.tensor.first_rows(logit_rows), {&head, 1});
  }

  int64_t weight_bytes() const { return weight_bytes_; }

 private:
  using Weights = std::vector<std::unique_ptr<Weight>>;
  CudaBackend& backend_;
  Shape shape_;
  KvLayout layout_;
  Floats x_, normed_, q_, k_, v_, attended_, gate_, up_, angles_, logits_, norm_;
  Weights q_weight_, k_weight_, v_weight_, o_weight_, gate_weight_, up_weight_, down_weight_, head_;
  std::vector<Buffer> memory_;
  std::vector<std::byte*> pages_;
  std::span<std::byte* const> span_;
  std::vector<AttentionRow> rows_;
  std::vector<int32_t> path_;
  int64_t weight_bytes_ = 0;
};

void bench_steps(CudaBackend& backend, const Shape& shape, double copy_gbs, bool quick) {
  Decoder decoder(backend, shape, 512);
  std::printf("{\"model\": \"%s\", \"context\": %d, \"weight_bytes\": %lld, \"rows\": {",
              shape.name, shape.context, static_cast<long long>(decoder.weight_bytes()));
  double one = 0.0;
  for (const int32_t count : {1, 2, 4, 8, 16, 32, 64, 512}) {
    decoder.prepare(count, count == 512);
    const auto work = [&] { decoder.forward(); };
    work();
    const int repeats = quick || count == 512 ? 3 : 9;
    const double graph = Replay(backend.stream(), work).microseconds(repeats);
    std::vector<double> queued;
    for (int i = 0; i < repeats; ++i) {
      check(cudaStreamSynchronize(backend.stream()), "wait");
      const auto begin = std::chrono::steady_clock::now();
      work();
      check(cudaStreamSynchronize(backend.stream()), "wait");
      queued.push_back(
          std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin)
              .count());
    }
    if (count == 1) one = graph;
    std::printf(
        "%s\"%d\": {\"graph_us\": %.0f, \"queued_us\": %.0f, \"fraction\": %.3f, \"ratio\": %.2f}",
        count == 1 ? "" : ", ", count, graph, median(queued),
        static_cast<double>(decoder.weight_bytes()) / graph / 1e3 / copy_gbs, graph / one);
  }
  std::printf("}}");
}

int run(bool quick, bool linear, bool steps) {
  CudaBackend backend(0);
  const double copy_gbs = copy_bandwidth(backend.stream());
  std::printf("{\"gpu\": \"%s\", \"copy_gbs\": %.0f, \"linear\": [", backend.description().c_str(),
              copy_gbs);
  const std::array<std::array<int64_t, 2>, 5> shapes{
      {{4096, 4096}, {14336, 4096}, {4096, 14336}, {22016, 4096}, {128256, 4096}}};
  for (size_t i = 0; linear && i < shapes.size(); ++i) {
    if (i > 0) std::printf(", ");
    bench_linear(backend, shapes[i][0], shapes[i][1], copy_gbs, quick);
  }
  std::printf("], \"steps\": [");
  const Shape models[] = {{"7B Q4_K", DType::kQ4_K, 32, 4096, 32, 8, 128, 14336, 32000, 512},
                          {"1.5B Q4_K", DType::kQ4_K, 28, 1536, 12, 2, 128, 8960, 151936, 512},
                          {"0.5B Q8_0", DType::kQ8_0, 24, 896, 14, 2, 64, 4864, 151936, 512}};
  for (size_t i = 0; steps && i < std::size(models); ++i) {
    if (i > 0) std::printf(", ");
    bench_steps(backend, models[i], copy_gbs, quick);
  }
  std::printf("]}\n");
  return 0;
}

}  // namespace
}  // namespace forerun::cuda

int main(int argc, char** argv) {
  const auto given = [&](const char* option) {
    return std::any_of(argv + 1, argv + argc,
                       [&](const char* text) { return std::strcmp(text, option) == 0; });
  };
  try {
    return forerun::cuda::run(given("--quick"), !given("--steps"), !given("--linear"));
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "cuda_bench: %s\n", failure.what());
    return 1;
  }
}
