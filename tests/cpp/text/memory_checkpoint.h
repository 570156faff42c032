#pragma once

#include <string>
#include <utility>

#include "io/checkpoint.h"

namespace forerun {

// A checkpoint that the test fills itself.
class MemoryCheckpoint : public Checkpoint {
 public:
  explicit MemoryCheckpoint(CheckpointFormat format) : Checkpoint(format, "memory") {}
  void set(const std::string& key, MetaValue value) { metadata_[key] = std::move(value); }
  void add_tensor(const std::string& name, std::vector<int64_t> shape) {  // without its bytes
    tensors_.push_back({name, DType::kF32, std::move(shape), {}});
    index_tensors();
  }
  void erase(const std::string& key) { metadata_.erase(key); }
  void set_file(const std::string& name, std::string contents) {
    side_files_[name] = std::move(contents);
  }
};

}  // namespace forerun
