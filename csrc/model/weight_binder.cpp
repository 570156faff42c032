#include "model/weight_binder.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/blocks.h"
#include "base/error.h"

namespace forerun {

std::unique_ptr<Weight> pack_tensor(const Checkpoint& checkpoint, Backend& backend,
                                    const std::string& name, const HostMatrix& matrix) {
  try {
    return backend.pack(matrix);
  } catch (const Error& error) {
    throw Error(error.kind(), checkpoint.path() + ": tensor '" + name + "': " + error.what());
  }
}

WeightBinder::WeightBinder(const Checkpoint& checkpoint, std::function<void(double)> progress)
    : checkpoint_(checkpoint), source_(checkpoint), progress_(std::move(progress)) {
  for (const TensorSource& tensor : checkpoint.tensors()) {
    total_bytes_ += static_cast<int64_t>(tensor.bytes.size());
  }
}

Linear WeightBinder::linear(const std::string& role, int64_t rows, int64_t cols) {
  const TensorSource& tensor = source_.matrix(role + ".weight", rows, cols);
  Linear out;
  out.weight = pack_tensor(checkpoint_, *backend_, tensor.name,
                           {tensor.dtype, rows, cols, tensor.bytes.data()});
  if (source_.find(role + ".bias") != nullptr) out.bias = vector(role + ".bias", rows);
  bytes_ += out.weight->bytes;
  parameters_ += rows * cols;
  report(tensor);
  return out;
}

Buffer WeightBinder::vector(const std::string& role, int64_t size) {
  const TensorSource& tensor = source_.vector(role, size);
  std::vector<float> values(static_cast<size_t>(size));
  dequantize(tensor.dtype, tensor.bytes.data(), size, values.data());
  Buffer buffer = backend_->allocate(size * 4);
  backend_->upload(buffer.data(), values.data(), size * 4);
  bytes_ += size * 4;
  parameters_ += size;
  report(tensor);
  return buffer;
}

bool WeightBinder::bound(const TensorSource& tensor) const {
  return std::find(bound_.begin(), bound_.end(), &tensor) != bound_.end();
}

void WeightBinder::report(const TensorSource& tensor) {
  bound_.push_back(&tensor);
  done_bytes_ += static_cast<int64_t>(tensor.bytes.size());
  checkpoint_.drop(tensor);
  if (progress_) progress_(static_cast<double>(done_bytes_) / static_cast<double>(total_bytes_));
}

}  // namespace forerun
