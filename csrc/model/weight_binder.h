#pragma once

#include <functional>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "model/block.h"
#include "model/weights.h"

namespace forerun {

// Brings the tensors of a checkpoint to a back end: checks the shape, packs, and gives the file's
// pages back, or the weights would be in memory twice.
class WeightBinder {
 public:
  // progress: called with the fraction of the file's bytes that are bound; may be empty.
  explicit WeightBinder(const Checkpoint& checkpoint, std::function<void(double)> progress = {});

  void go_to(Backend& backend) { backend_ = &backend; }  // with what is bound from now on

  // ROLE.weight [rows, cols] and, where the file has it, ROLE.bias [rows].
  Linear linear(const std::string& role, int64_t rows, int64_t cols);
  Buffer vector(const std::string& role, int64_t size);

  bool bound(const TensorSource& tensor) const;
  const WeightSource& source() const { return source_; }
  int64_t bytes() const { return bytes_; }  // of what was bound, as packed
  int64_t parameters() const { return parameters_; }

 private:
  void report(const TensorSource& tensor);

  const Checkpoint& checkpoint_;
  Backend* backend_ = nullptr;
  WeightSource source_;
  std::function<void(double)> progress_;
  std::vector<const TensorSource*> bound_;
  int64_t total_bytes_ = 0, done_bytes_ = 0, bytes_ = 0, parameters_ = 0;
};

// An error of packing names the tensor.
std::unique_ptr<Weight> pack_tensor(const Checkpoint& checkpoint, Backend& backend,
                                    const std::string& name, const HostMatrix& matrix);

}  // namespace forerun
