#include "backend/cuda/cuda_backend.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "backend/cuda/elementwise.h"
#include "backend/cuda/packed_layout.h"
#include "base/error.h"

namespace forerun::cuda {
namespace {

constexpr int64_t kBounceBytes = int64_t{4} << 20;
constexpr int64_t kAttentionBytes = int64_t{64} << 20;
constexpr int64_t kIndexBytes = int64_t{16} << 10;
constexpr int kRounds = 3;  // of a race under top-p before the host looks whether more are needed

class CudaWeight final : public Weight {
 public:
  CudaWeight(const HostMatrix& matrix, int64_t size) : memory(size, "a weight matrix") {
    dtype = matrix.dtype;
    rows = static_cast<int32_t>(matrix.rows);
    cols = static_cast<int32_t>(matrix.cols);
    bytes = size;
  }
  DeviceMemory memory;
};

const CudaWeight& own(const Weight& weight) { return static_cast<const CudaWeight&>(weight); }

int pick_device(int device) {
  check(cudaSetDevice(device), "choose the device");
  return device;
}

std::string describe(int device) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "read the device's properties");
  return std::string(properties.name) + ", compute capability " + std::to_string(properties.major) +
         "." + std::to_string(properties.minor) + ", " +
         std::to_string(properties.multiProcessorCount) + " multiprocessors, " +
         std::to_string(properties.totalGlobalMem >> 20) + " MiB; int8 tensor-core kernels";
}

}  // namespace

CudaBackend::CudaBackend(int device)
    : device_(pick_device(device)),
      description_(describe(device)),
      bounce_(kBounceBytes),
      attention_(kAttentionBytes, "attention scratch"),
      indices_(kIndexBytes, "row indices") {
  int pools = 0;
  check(cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, device),
        "ask for memory pools");
  if (pools != 0) {
    check(cudaDeviceGetDefaultMemPool(&pool_, device), "get the memory pool");
    uint64_t keep =
        UINT64_MAX;  // pages of a finished sequence go to the next one without asking the driver
    check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep),
          "set up the memory pool");
  }
}

CudaBackend::~CudaBackend() {
  cudaSetDevice(device_);
  cudaStreamSynchronize(stream_.get());
  release_freed();
}

void CudaBackend::use() const { check(cudaSetDevice(device_), "choose the device"); }

void CudaBackend::use_alone(const char* operation) const {
  if (graphs_.running()) {
    throw Error(ErrorKind::kBadArgument,
                std::string("cuda: ") + operation + " cannot be part of a sequence");
  }
  use();
}

Buffer CudaBackend::allocate(int64_t bytes) {
  use_alone("allocate");
  release_freed();
  const int64_t size = std::max<int64_t>(bytes, 64);
  if (pool_ == nullptr) return {this, allocate_device(size, "a buffer"), bytes};
  void* data = nullptr;
  const cudaError_t status = cudaMallocAsync(&data, static_cast<size_t>(size), stream_.get());
  if (status != cudaSuccess) {  // the plain way, with its report
    cudaGetLastError();
    cudaStreamSynchronize(stream_.get());
    cudaMemPoolTrimTo(pool_, 0);
    return {this, allocate_device(size, "a buffer"), bytes};
  }
  const cudaError_t cleared = cudaMemsetAsync(data, 0, static_cast<size_t>(size), stream_.get());
  if (cleared != cudaSuccess) cudaFreeAsync(data, stream_.get());
  check(cleared, "clear a buffer");
  return {this, data, bytes};
}

void CudaBackend::free(void* data, int64_t) noexcept {
  if (data == nullptr) return;
  const std::lock_guard lock(freed_mutex_);
  try {
    freed_.push_back(data);
  } catch (const std::bad_alloc&) {
    release(data);
  }
}

void CudaBackend::release_freed() noexcept {
  std::vector<void*> freed;
  {
    const std::lock_guard lock(freed_mutex_);
    freed.swap(freed_);
  }
  for (void* data : freed) release(data);
}

void CudaBackend::release(void* data) noexcept {
  if (cudaSetDevice(device_) != cudaSuccess) return;
  if (pool_ == nullptr || cudaFreeAsync(data, stream_.get()) != cudaSuccess) {
    cudaGetLastError();
    cudaFree(data);
  }
}

void CudaBackend::upload(void* device, const void* host, int64_t bytes) {
  use_alone("upload");
  staging_.upload(device, host, bytes, stream_.get());
}

void CudaBackend::upload_halves(float* device, std::span<const uint16_t> host) {
  use_alone("upload_halves");
  const auto bytes = static_cast<int64_t>(host.size_bytes());
  if (bytes == 0) return;
  grow(halves_, bytes, "half floats that cross");
  staging_.upload(halves_.data(), host.data(), bytes, stream_.get());
  const Tensor out(device, 1, static_cast<int32_t>(host.size()));
  cuda::widen(reinterpret_cast<const uint16_t*>(halves_.data()), out, stream_.get());
}

void CudaBackend::download_halves(std::span<uint16_t> host, const float* device) {
  use_alone("download_halves");
  const auto bytes = static_cast<int64_t>(host.size_bytes());
  if (bytes == 0) return;
  grow(halves_, bytes, "half floats that cross");
  const Tensor x(const_cast<float*>(device), 1, static_cast<int32_t>(host.size()));
  cuda::narrow(x, reinterpret_cast<uint16_t*>(halves_.data()), stream_.get());
  bring(host.data(), halves_.data(), bytes);
}

void CudaBackend::download(void* host, const void* device, int64_t bytes) {
  use_alone("download");
  bring(host, device, bytes);
}

void CudaBackend::bring(void* host, const void* device, int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  void* to = bytes <= bounce_.bytes() ? bounce_.data() : host;
  check(cudaMemcpyAsync(to, device, size, cudaMemcpyDeviceToHost, stream_.get()), "download");
  stream_.wait();
  if (to != host && bytes > 0) std::memcpy(host, to, size);
}

void CudaBackend::copy(void* to, const void* from, int64_t bytes) {
  use_alone("copy");
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice,
                        stream_.get()),
        "copy");
}

void CudaBackend::synchronize() {
  use();
  stream_.wait();
}

void CudaBackend::grow(DeviceMemory& memory, int64_t bytes, const char* purpose) {
  if (memory.bytes() >= bytes) return;
  stream_.wait();
  memory = DeviceMemory();
  memory = DeviceMemory(bytes, purpose);
  graphs_.moved();
}

std::unique_ptr<Weight> CudaBackend::pack(const HostMatrix& matrix) {
  use_alone("pack");
  if (matrix.rows < 1 || matrix.cols < 1 || matrix.rows > INT32_MAX || matrix.cols > INT32_MAX) {
    throw Error(ErrorKind::kBadArgument, "cuda: a matrix of " + std::to_string(matrix.rows) +
                                             " x " + std::to_string(matrix.cols) +
                                             " cannot be packed");
  }
  const auto rows = static_cast<int32_t>(matrix.rows);
  const auto cols = static_cast<int32_t>(matrix.cols);
  const int64_t row_bytes = dtype_bytes(matrix.dtype, matrix.cols);
  if (is_quantized(matrix.dtype)) {
    const int64_t records = int64_t{round_up(rows, 16) / 16} *
                            (round_up(cols, packed_unit(matrix.dtype)) / packed_unit(matrix.dtype));
    auto weight = std::make_unique<CudaWeight>(matrix, records * packed_record(matrix.dtype));
    grow(file_blocks_, row_bytes * rows, "packing a weight matrix");
    staging_.upload(file_blocks_.data(), matrix.data, row_bytes * rows, stream_.get());
    pack_blocks(matrix.dtype, file_blocks_.data(), rows, cols, weight->memory.data(),
                stream_.get());
    stream_.wait();
    return weight;
  }
  if (matrix.dtype != DType::kF32 && matrix.dtype != DType::kF16 && matrix.dtype != DType::kBF16) {
    throw Error(ErrorKind::kUnsupported, "cuda: no kernel for weights of type " +
                                             std::string(dtype_info(matrix.dtype).name));
  }
  const int64_t stride = row_bytes / cols * round_up(cols, 8);
  auto weight = std::make_unique<CudaWeight>(matrix, stride * rows);
  check(cudaMemcpy2DAsync(weight->memory.data(), static_cast<size_t>(stride), matrix.data,
                          static_cast<size_t>(row_bytes), static_cast<size_t>(row_bytes),
                          static_cast<size_t>(rows), cudaMemcpyHostToDevice, stream_.get()),
        "upload a weight matrix");
  stream_.wait();
  return weight;
}

void CudaBackend::reserve(int32_t max_rows, int32_t max_cols) {
  use_alone("reserve");
  stream_.wait();
  file_blocks_ = DeviceMemory();
  const int64_t padded = round_up(max_rows, 64), cols = round_up(max_cols, 256);
  grow(codes_, padded * cols, "quantised activations");
  grow(scales_, padded * cols / 32 * 8, "activation scales");
  grow(sums_, padded * cols / 256 * 16, "activation sums");
}

QuantizedRows CudaBackend::quantized(Tensor x, bool super) {
  const int32_t padded = round_up(x.rows, 64);
  const int64_t cols = round_up(x.cols, 256);
  grow(codes_, padded * cols, "quantised activations");
  grow(scales_, padded * cols / 32 * 8, "activation scales");
  grow(sums_, padded * cols / 256 * 16, "activation sums");
  QuantizedRows out;
  out.codes = codes_.data();
  out.scale = reinterpret_cast<float*>(scales_.data());
  out.sums = reinterpret_cast<int16_t*>(sums_.data());
  out.rows = x.rows;
  out.padded = padded;
  quantize_rows(x, super, out, stream_.get());
  return out;
}

// The tasks of one type, kMaxTasks to a launch.
void CudaBackend::linear_of(DType dtype, const QuantizedRows& x,
                            std::span<const LinearTask> tasks) {
  MatrixTasks launch;
  const auto flush = [&] {
    if (launch.count > 0) linear_quantized(dtype, x, launch, stream_.get());
    launch = MatrixTasks();
  };
  for (const LinearTask& task : tasks) {
    if (task.weight->dtype != dtype) continue;
    launch.units = round_up(task.weight->cols, packed_unit(dtype)) / packed_unit(dtype);
    launch.task[launch.count++] = {own(*task.weight).memory.data(),
                                   task.bias,
                                   task.out.data,
                                   task.out.stride,
                                   task.weight->rows,
                                   launch.panels};
    launch.panels += round_up(task.weight->rows, 16) / 16;
    if (launch.count == kMaxTasks) flush();
  }
  flush();
}

void CudaBackend::sequence(const std::function<void()>& work) {
  use_alone("a sequence");
  graphs_.run(
      [&] {
        indices_used_ = 0;
        batch_placed_ = false;
        work();
      },
      stream_.get());
}

void CudaBackend::linear(Tensor x, std::span<const LinearTask> tasks) {
  use();
  if (x.rows == 0) return;
  std::array<bool, kDTypeCount> wanted{};
  for (const LinearTask& task : tasks) {
    const Weight& weight = *task.weight;
    if (weight.cols != x.cols) {
      throw Error(ErrorKind::kBadArgument, "cuda: linear: a weight of " +
                                               std::to_string(weight.cols) +
                                               " inputs meets rows of " + std::to_string(x.cols));
    }
    wanted[static_cast<size_t>(weight.dtype)] = true;
    if (is_quantized(weight.dtype)) continue;
    const FloatMatrix matrix{own(weight).memory.data(), task.bias, weight.rows, weight.cols,
                             round_up(weight.cols, 8)};
    linear_float(weight.dtype, matrix, x, task.out, stream_.get());
  }
  for (const bool super : {true, false}) {
    QuantizedRows rows;
    for (int type = 0; type < kDTypeCount; ++type) {
      const auto dtype = static_cast<DType>(type);
      if (!wanted[static_cast<size_t>(type)] || !is_quantized(dtype) ||
          packed_super(dtype) != super)
        continue;
      if (rows.rows == 0) rows = quantized(x, super);
      linear_of(dtype, rows, tasks);
    }
  }
}

void CudaBackend::rms_norm(Tensor x, const float* weight, float epsilon, Tensor out) {
  use();
  if (x.rows > 0) cuda::rms_norm(x, 1, weight, epsilon, out, stream_.get());
}

void CudaBackend::head_norm(Tensor x, int32_t heads, const float* weight, float epsilon) {
  use();
  if (x.rows > 0) cuda::rms_norm(x, heads, weight, epsilon, x, stream_.get());
}

void CudaBackend::rope(Tensor x, int32_t heads, Tensor cos_sin, bool interleaved) {
  use();
  if (x.rows > 0) cuda::rope(x, heads, cos_sin, interleaved, stream_.get());
}

void CudaBackend::check_kv(const KvLayout& layout) const {
  const bool known = layout.type == DType::kF16 || layout.type == DType::kF32 ||
                     (layout.type == DType::kQ8_0 && layout.head_dim % KvLayout::kScaleBlock == 0);
  if (known && layout.head_dim % 2 == 0 && layout.head_dim <= kMaxHeadDim) return;
  throw Error(ErrorKind::kUnsupported,
              "cuda: keys and values of type " + std::string(dtype_info(layout.type).name) +
                  " in heads of " + std::to_string(layout.head_dim) +
                  "; expected F16 or F32 and an even number of values up to " +
                  std::to_string(kMaxHeadDim) + ", or Q8_0 and a multiple of 32");
}

// A second batch would take the place of the first before its launches are done.
DeviceBatch CudaBackend::put_batch(const AttentionBatch& batch) {
  const int64_t before = batch_.uploads();
  const DeviceBatch placed = batch_.put(batch, staging_, stream_.get());
  if (graphs_.running() && batch_placed_ && batch_.uploads() > before) {
    throw Error(ErrorKind::kBadArgument, "cuda: two batches of attention in one sequence");
  }
  batch_placed_ = true;
  return placed;
}

void CudaBackend::store_kv(const AttentionBatch& batch, int32_t layer, Tensor k, Tensor v) {
  use();
  if (!batch.rows.empty()) cuda::store_kv(put_batch(batch), layer, k, v, stream_.get());
}

void CudaBackend::attention(const AttentionBatch& batch, int32_t layer, Tensor q, float scale,
                            Tensor out) {
  use();
  if (batch.rows.empty()) return;
  const Scratch scratch{reinterpret_cast<float*>(attention_.data()), attention_.bytes() / 4};
  cuda::attention(put_batch(batch), layer, q, scale, out, scratch, stream_.get());
}

void CudaBackend::swiglu(Tensor gate, Tensor up, Tensor out) {
  use();
  if (out.rows > 0) cuda::swiglu(gate, up, out, stream_.get());
}

void CudaBackend::add(Tensor x, Tensor y) {
  use();
  if (x.rows > 0) cuda::add(x, y, stream_.get());
}

void CudaBackend::blend(Tensor gate, Tensor a, Tensor b, Tensor out) {
  use();
  if (out.rows > 0) cuda::blend(gate, a, b, out, stream_.get());
}

// All uploads of a sequence come before its launches, so each call has a place of its own.
const int32_t* CudaBackend::put_indices(std::span<const int32_t> rows) {
  const auto bytes = static_cast<int64_t>(rows.size_bytes());
  const int64_t at = graphs_.running() ? indices_used_ : 0;
  indices_used_ = at + bytes;
  grow(indices_, indices_used_, "row indices");
  std::byte* place = indices_.data() + at;
  if (!graphs_.uploaded()) staging_.upload(place, rows.data(), bytes, stream_.get());
  return reinterpret_cast<const int32_t*>(place);
}

void CudaBackend::gather_rows(Tensor x, std::span<const int32_t> rows, Tensor out) {
  use();
  if (rows.empty()) return;
  out.rows = static_cast<int32_t>(rows.size());
  cuda::gather_rows(x, put_indices(rows), out, stream_.get());
}

void CudaBackend::move_kv(const KvLayout& layout, std::span<std::byte* const> pages,
                          std::span<const int32_t> from, std::span<const int32_t> to) {
  use_alone("move_kv");
  if (from.empty()) return;
  const auto page_bytes = static_cast<int64_t>(pages.size_bytes()),
             slot_bytes = static_cast<int64_t>(from.size_bytes());
  grow(indices_, page_bytes + 2 * slot_bytes, "pages and slots of a move");
  std::byte* at = indices_.data();
  staging_.upload(at, pages.data(), page_bytes, stream_.get());
  staging_.upload(at + page_bytes, from.data(), slot_bytes, stream_.get());
  staging_.upload(at + page_bytes + slot_bytes, to.data(), slot_bytes, stream_.get());
  cuda::move_kv(layout, reinterpret_cast<std::byte* const*>(at),
                reinterpret_cast<const int32_t*>(at + page_bytes),
                reinterpret_cast<const int32_t*>(at + page_bytes + slot_bytes),
                static_cast<int32_t>(from.size()), stream_.get());
}

const uint64_t* CudaBackend::ranked(Tensor x, int32_t k) {
  const int64_t keys = top_k_keys(x.cols, k) * x.rows;
  grow(keys_, 2 * keys * static_cast<int64_t>(sizeof(uint64_t)), "top-k keys");
  auto* first = reinterpret_cast<uint64_t*>(keys_.data());
  return cuda::top_k(x, k, first, first + keys, stream_.get());
}

int32_t CudaBackend::most_top_k() const { return kMaxTopK; }

void CudaBackend::top_k(Tensor x, int32_t k, std::span<int32_t> ids, std::span<float> values) {
  use_alone("top_k");
  if (x.rows == 0 || k == 0) return;
  if (k < 0 || k > x.cols || k > kMaxTopK) {
    throw Error(ErrorKind::kBadArgument, "cuda: top_k: k is " + std::to_string(k) +
                                             ", expected 1.." +
                                             std::to_string(std::min(x.cols, kMaxTopK)));
  }
  const uint64_t* sorted = ranked(x, k);
  const int64_t row_bytes = k * static_cast<int64_t>(sizeof(uint64_t));
  const auto rows_at_once = static_cast<int32_t>(bounce_.bytes() / row_bytes);
  for (int32_t row = 0; row < x.rows; row += rows_at_once) {
    const int64_t count = int64_t{std::min(rows_at_once, x.rows - row)} * k;
    check(cudaMemcpyAsync(bounce_.data(), sorted + int64_t{row} * k,
                          static_cast<size_t>(count) * sizeof(uint64_t), cudaMemcpyDeviceToHost,
                          stream_.get()),
          "download the top k");
    stream_.wait();
    const auto* host = reinterpret_cast<const uint64_t*>(bounce_.data());
    for (int64_t i = 0; i < count; ++i) {
      ids[static_cast<size_t>(int64_t{row} * k + i)] = static_cast<int32_t>(top_k_id(host[i]));
      values[static_cast<size_t>(int64_t{row} * k + i)] = top_k_value(host[i]);
    }
  }
}

bool CudaBackend::can_choose(const TokenDraw& draw, int32_t vocab) const {
  return !draw.ranked(vocab) || draw.top_k <= kMaxTopK;
}

void CudaBackend::choose(Tensor logits, std::span<const TokenDraw> draws,
                         std::span<int32_t> tokens) {
  int32_t most = 0;
  bool top_p = false;
  choices_on_host_.clear();
  for (const TokenDraw& draw : draws) {
    if (!can_choose(draw, logits.cols)) return Backend::choose(logits, draws, tokens);
    if (draw.ranked(logits.cols)) most = std::max(most, draw.top_k);
    top_p = top_p || draw.top_p_of_all(logits.cols);
    choices_on_host_.push_back({draw});
  }
  use_alone("choose");
  const auto rows = static_cast<int32_t>(draws.size());
  if (rows == 0) return;
  const Tensor x = logits.first_rows(rows);
  const int64_t bytes = rows * static_cast<int64_t>(sizeof(RowChoice));
  grow(choices_, bytes + rows * top_p_scratch(x.cols), "the choice of tokens");
  staging_.upload(choices_.data(), choices_on_host_.data(), bytes, stream_.get());
  auto* choices = reinterpret_cast<RowChoice*>(choices_.data());
  if (most > 0) cut_ranked(choices, rows, ranked(x, most), most, x.cols, stream_.get());
  find_best(x, choices, stream_.get());
  const auto undecided = [](const RowChoice& choice) { return choice.decided == 0; };
  do {
    for (int round = 0; round < (top_p ? kRounds : 1); ++round) {
      race(x, choices, stream_.get());
      if (top_p) judge_top_p(x, choices, choices_.data() + bytes, stream_.get());
    }
    download(choices_on_host_.data(), choices, bytes);
  } while (top_p && std::ranges::any_of(choices_on_host_, undecided));
  for (size_t row = 0; row < draws.size(); ++row)
    tokens[row] = static_cast<int32_t>(top_k_id(choices_on_host_[row].winner));
}

}  // namespace forerun::cuda
