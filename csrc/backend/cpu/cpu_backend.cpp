#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "backend/cpu/float_mode.h"
#include "backend/cpu/pack.h"
#include "base/affinity.h"
#include "base/blocks.h"
#include "base/cpu_features.h"
#include "base/error.h"

namespace forerun {

CpuKernels kernels_of(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      break;
    case Isa::kAvx2:
      return {isa_name(isa), kKernelsAvx2};
    case Isa::kAvxVnni:
      return {isa_name(isa), kKernelsAvxVnni};
    case Isa::kAvx512Vnni:
      return {isa_name(isa), kKernelsAvx512};
    case Isa::kAmx:
      return {isa_name(isa), kKernelsAvx512, &kMatmulAmx};
  }
  return {isa_name(isa), kKernelsScalar};
}

namespace {

std::span<const MatmulTable* const> tiles_of(const CpuKernels& kernels) {
  return {&kernels.tiles, kernels.tiles != nullptr ? size_t{1} : size_t{0}};
}

void check_same_shape(const char* what, const Tensor& a, const Tensor& b) {
  if (a.rows == b.rows && a.cols == b.cols) return;
  throw Error(ErrorKind::kBadArgument,
              std::string(what) + ": " + std::to_string(a.rows) + " x " + std::to_string(a.cols) +
                  " and " + std::to_string(b.rows) + " x " + std::to_string(b.cols) + " differ");
}

void check_heads(const char* what, const Tensor& x, int32_t heads) {
  if (heads >= 1 && x.cols % heads == 0) return;
  throw Error(ErrorKind::kBadArgument, std::string(what) + ": " + std::to_string(x.cols) +
                                           " values do not divide into " + std::to_string(heads) +
                                           " heads");
}

}  // namespace

CpuBackend::CpuBackend(int threads, const CpuKernels& kernels, std::vector<int> cores)
    : isa_(kernels.name),
      cores_(std::move(cores)),
      kernels_(kernels.table),
      pool_(threads, cores_),
      choice_(kernels_, tiles_of(kernels), pool_),
      kv_rows_(kernels_, pool_),
      attention_(kernels_, pool_) {}

std::string CpuBackend::name() const {
  return cores_.empty() ? "cpu" : "cpu:" + cores_text(cores_);
}

void CpuBackend::bind_thread() { forerun::bind_thread(cores_); }

std::string CpuBackend::description() const {
  const std::string choice = choice_.description();
  return std::string(isa_) + ", " + std::to_string(pool_.size()) +
         (pool_.size() == 1 ? " thread, " : " threads, ") + cpu_features().model +
         (choice.empty() ? "" : " (" + choice + ")");
}

Buffer CpuBackend::allocate(int64_t bytes) {
  if (bytes < 0)
    throw Error(ErrorKind::kBadArgument, "cpu: a buffer of " + std::to_string(bytes) + " bytes");
  if (bytes == 0) return Buffer(this, nullptr, 0);
  const std::lock_guard<std::mutex> lock(memory_mutex_);
  std::vector<PagePiece>& spare = spare_[bytes];
  PagePiece piece;
  if (spare.empty()) {
    piece = arena_.take(bytes);
  } else {
    piece = std::move(spare.back());
    spare.pop_back();
    std::memset(piece.data, 0, static_cast<size_t>(bytes));
  }
  void* data = piece.data;
  given_.emplace(data, std::move(piece));
  return Buffer(this, data, bytes);
}

// A block of its own goes back to the system; a piece of a shared one waits for its like.
void CpuBackend::free(void* data, int64_t) noexcept {
  const std::lock_guard<std::mutex> lock(memory_mutex_);
  const auto found = given_.find(data);
  if (found == given_.end()) return;
  PagePiece& piece = found->second;
  if (piece.block.use_count() > 1) spare_[piece.bytes].push_back(std::move(piece));
  given_.erase(found);
}

void CpuBackend::upload(void* device, const void* host, int64_t bytes) {
  if (bytes > 0) std::memcpy(device, host, static_cast<size_t>(bytes));
}

void CpuBackend::upload_halves(float* device, std::span<const uint16_t> host) {
  std::transform(host.begin(), host.end(), device, half_to_float);
}

void CpuBackend::download_halves(std::span<uint16_t> host, const float* device) {
  std::transform(device, device + host.size(), host.begin(), float_to_finite_half);
}

void CpuBackend::copy(void* to, const void* from, int64_t bytes) {
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

void CpuBackend::download(void* host, const void* device, int64_t bytes) {
  if (bytes > 0) std::memcpy(host, device, static_cast<size_t>(bytes));
}

std::unique_ptr<Weight> CpuBackend::pack(const HostMatrix& matrix) {
  auto weight = pack_panels(matrix, weights_, pool_);
  choice_.measure(matrix.dtype, pool_);
  return weight;
}

void CpuBackend::ensure(PageBlock& block, int64_t bytes) {
  if (block.bytes() >= bytes) return;
  block = PageBlock();
  block = PageBlock(bytes);
}

void CpuBackend::reserve(int32_t max_rows, int32_t max_cols) {
  const int64_t rows = std::max(max_rows, 0);
  const int64_t cols = std::max(max_cols, 0);
  ensure(activation_k_, rows * (cols / 256) * static_cast<int64_t>(sizeof(ActivationK)));
  ensure(activation_32_, rows * (cols / 32) * static_cast<int64_t>(sizeof(Activation32)));
  attention_.reserve(max_rows);
}

void CpuBackend::rms_norm(Tensor x, const float* weight, float epsilon, Tensor out) {
  const FloatMode mode;
  check_same_shape("rms_norm", x, out);
  each_row(x.rows, x.cols, [&](int64_t row) {
    const auto r = static_cast<int32_t>(row);
    kernels_.rms_norm(x.row(r), weight, x.cols, epsilon, out.row(r));
  });
}

void CpuBackend::add_rms_norm(Tensor x, Tensor y, const float* weight, float epsilon, Tensor out) {
  const FloatMode mode;
  check_same_shape("add_rms_norm", x, y);
  check_same_shape("add_rms_norm", x, out);
  each_row(x.rows, x.cols, [&](int64_t row) {
    const auto r = static_cast<int32_t>(row);
    kernels_.add(x.row(r), y.row(r), x.cols);
    kernels_.rms_norm(x.row(r), weight, x.cols, epsilon, out.row(r));
  });
}

void CpuBackend::head_norm(Tensor x, int32_t heads, const float* weight, float epsilon) {
  const FloatMode mode;
  check_heads("head_norm", x, heads);
  const int32_t head_dim = x.cols / heads;
  each_row(x.rows, x.cols, [&](int64_t row) {
    float* values = x.row(static_cast<int32_t>(row));
    for (int32_t head = 0; head < heads; ++head, values += head_dim) {
      kernels_.rms_norm(values, weight, head_dim, epsilon, values);
    }
  });
}

void CpuBackend::rope(Tensor x, int32_t heads, Tensor cos_sin, bool interleaved) {
  const FloatMode mode;
  check_heads("rope", x, heads);
  const int32_t head_dim = x.cols / heads;
  if (cos_sin.rows != x.rows || cos_sin.cols > head_dim || cos_sin.cols % 2 != 0) {
    throw Error(ErrorKind::kBadArgument,
                "rope: cos_sin is " + std::to_string(cos_sin.rows) + " x " +
                    std::to_string(cos_sin.cols) + ", expected " + std::to_string(x.rows) +
                    " rows of an even number of values up to " + std::to_string(head_dim));
  }
  each_row(x.rows, x.cols, [&](int64_t row) {
    const auto r = static_cast<int32_t>(row);
    kernels_.rope(x.row(r), heads, head_dim, cos_sin.row(r), cos_sin.cols, interleaved);
  });
}

void CpuBackend::swiglu(Tensor gate, Tensor up, Tensor out) {
  const FloatMode mode;
  check_same_shape("swiglu", gate, up);
  check_same_shape("swiglu", gate, out);
  each_row(gate.rows, gate.cols, [&](int64_t row) {
    const auto r = static_cast<int32_t>(row);
    kernels_.swiglu(gate.row(r), up.row(r), gate.cols, out.row(r));
  });
}

// By the draft heads of one family, on a row or two at a time: not worth kernels of its own.
void CpuBackend::blend(Tensor gate, Tensor a, Tensor b, Tensor out) {
  const FloatMode mode;
  check_same_shape("blend", gate, a);
  check_same_shape("blend", gate, b);
  check_same_shape("blend", gate, out);
  for (int32_t row = 0; row < gate.rows; ++row) {
    const float *z = gate.row(row), *first = a.row(row), *second = b.row(row);
    float* to = out.row(row);
    for (int32_t i = 0; i < gate.cols; ++i) {
      to[i] = second[i] + (first[i] - second[i]) / (1.0F + std::exp(-z[i]));
    }
  }
}

void CpuBackend::add(Tensor x, Tensor y) {
  const FloatMode mode;
  check_same_shape("add", x, y);
  each_row(x.rows, x.cols, [&](int64_t row) {
    const auto r = static_cast<int32_t>(row);
    kernels_.add(x.row(r), y.row(r), x.cols);
  });
}

void CpuBackend::gather_rows(Tensor x, std::span<const int32_t> rows, Tensor out) {
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] < 0 || rows[i] >= x.rows || static_cast<int64_t>(i) >= out.rows ||
        x.cols != out.cols) {
      throw Error(ErrorKind::kBadArgument, "gather_rows: row " + std::to_string(rows[i]) + " of " +
                                               std::to_string(x.rows) + " into " +
                                               std::to_string(out.rows));
    }
    std::memmove(out.row(static_cast<int32_t>(i)), x.row(rows[i]),
                 sizeof(float) * static_cast<size_t>(x.cols));
  }
}

void CpuBackend::check_kv(const KvLayout& layout) const {
  const std::string name(dtype_info(layout.type).name);
  if (layout.type == DType::kQ8_0 && layout.head_dim % KvLayout::kScaleBlock != 0) {
    throw Error(ErrorKind::kUnsupported, "cpu: kv_type is " + name +
                                             ", whose blocks hold 32 values, "
                                             "but a head of this model has " +
                                             std::to_string(layout.head_dim));
  }
  if (layout.type != DType::kF16 && layout.type != DType::kF32 && layout.type != DType::kQ8_0) {
    throw Error(ErrorKind::kUnsupported, "cpu: kv_type is " + name + ", expected F16, F32 or Q8_0");
  }
}

void CpuBackend::store_kv(const AttentionBatch& batch, int32_t layer, Tensor k, Tensor v) {
  const FloatMode mode;
  kv_rows_.store(batch, layer, k, v);
}

void CpuBackend::attention(const AttentionBatch& batch, int32_t layer, Tensor q, float scale,
                           Tensor out) {
  const FloatMode mode;
  attention_.run(batch, layer, q, scale, out);
}

void CpuBackend::move_kv(const KvLayout& layout, std::span<std::byte* const> pages,
                         std::span<const int32_t> from, std::span<const int32_t> to) {
  kv_rows_.move(layout, pages, from, to);
}

// Whether `a` stands before `b`: larger, or as large with a lower id.
bool CpuBackend::before(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// A heap of the k best so far, the worst on top; the scan jumps to the next value above it.
void CpuBackend::top_k(Tensor x, int32_t k, std::span<int32_t> ids, std::span<float> values) {
  const size_t results = static_cast<size_t>(std::max(k, 0)) * static_cast<size_t>(x.rows);
  if (k < 1 || k > x.cols || ids.size() < results || values.size() < results) {
    throw Error(ErrorKind::kBadArgument, "top_k: k = " + std::to_string(k) + " of " +
                                             std::to_string(x.cols) + " values, room for " +
                                             std::to_string(ids.size()) + " results");
  }
  if (candidates_.size() < results) candidates_.resize(results);
  each_row(x.rows, x.cols, [&](int64_t row) {
    const float* value = x.row(static_cast<int32_t>(row));
    Candidate* heap = candidates_.data() + row * k;
    for (int32_t i = 0; i < k; ++i) {
      heap[i] = {value[i] == value[i] ? value[i] : -std::numeric_limits<float>::infinity(), i};
    }
    std::make_heap(heap, heap + k, before);
    int64_t at = kernels_.vocabulary.find_above(value, k, x.cols, heap[0].value);
    while (at < x.cols) {
      std::pop_heap(heap, heap + k, before);
      heap[k - 1] = {value[at], static_cast<int32_t>(at)};
      std::push_heap(heap, heap + k, before);
      at = kernels_.vocabulary.find_above(value, at + 1, x.cols, heap[0].value);
    }
    std::sort_heap(heap, heap + k, before);
    for (int32_t i = 0; i < k; ++i) {
      ids[static_cast<size_t>(row * k + i)] = heap[i].id;
      values[static_cast<size_t>(row * k + i)] = heap[i].value;
    }
  });
}

std::vector<KernelUse> cpu_kernel_uses(int threads) {
  const CpuKernels kernels = kernels_of(selected_isa());
  ThreadPool pool(threads);
  KernelChoice choice(kernels.table, tiles_of(kernels), pool);
  std::vector<KernelUse> all;
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    choice.measure(dtype, pool);
    for (const auto& [rows, table] : choice.uses(dtype)) {
      all.push_back({dtype, rows, std::string(table)});
    }
  }
  return all;
}

const VocabularyKernels& vocabulary_kernels() {
  return kernels_of(selected_isa()).table.vocabulary;
}

std::unique_ptr<Backend> make_cpu_backend(int threads, const std::string& cores) {
  const CpuFeatures& cpu = cpu_features();
  const Isa isa = selected_isa();
  const char* forced = std::getenv("FORERUN_ISA");
  if (isa == Isa::kScalar && (forced == nullptr || *forced == '\0')) {
    throw Error(
        ErrorKind::kUnsupported,
        "cpu: " + cpu.model + " lacks AVX2, FMA or F16C; FORERUN_ISA=scalar runs the plain loops");
  }
  if (threads < 0) {
    throw Error(ErrorKind::kBadArgument,
                "threads: expected 0 or more, found " + std::to_string(threads));
  }
  std::vector<int> where = cores.empty() ? std::vector<int>() : parse_cores(cores);
  const int most = where.empty() ? cpu.cores : static_cast<int>(where.size());
  return std::make_unique<CpuBackend>(threads == 0 ? most : threads, kernels_of(isa),
                                      std::move(where));
}

}  // namespace forerun
