#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"

namespace forerun {

// A described tensor: a view into the mapped file, every size already checked against the file.
struct TensorSource {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // outermost first: a weight matrix is [outputs, inputs]
  std::span<const std::byte> bytes;
};

// A value of a checkpoint's metadata. Integers of every width widen to int64 or uint64.
using MetaValue = std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<int64_t>,
                               std::vector<uint64_t>, std::vector<double>, std::vector<bool>,
                               std::vector<std::string>>;

enum class CheckpointFormat { kGguf, kHuggingFace };

// A model as found on disk, immutable: metadata and tensors. Owns the mappings that the views point
// into. For a Hugging Face folder, `metadata` holds config.json flattened ("rope_scaling.factor"),
// tensors keep the names of the safetensors files, and `files` the raw text of the JSON files
// beside them.
class FORERUN_API Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  CheckpointFormat format() const { return format_; }
  const std::string& path() const { return path_; }
  const std::map<std::string, MetaValue, std::less<>>& metadata() const { return metadata_; }
  const std::vector<TensorSource>& tensors() const { return tensors_; }  // in file order

  const TensorSource* find_tensor(std::string_view name) const;  // nullptr when absent
  const TensorSource& tensor(std::string_view name) const;  // Error(kBadFile) naming it when absent

  // Typed look-ups: nullptr / fallback when absent, Error(kBadFile) naming the key when it has
  // another type.
  const MetaValue* find(std::string_view key) const;
  int64_t integer(std::string_view key) const;  // required
  int64_t integer(std::string_view key, int64_t fallback) const;
  double number(std::string_view key) const;  // integers convert
  double number(std::string_view key, double fallback) const;
  bool boolean(std::string_view key, bool fallback) const;
  const std::string& text(std::string_view key) const;  // required
  std::string text(std::string_view key, std::string_view fallback) const;
  const std::vector<std::string>* texts(std::string_view key) const;  // nullptr when absent

  // Raw contents of a file beside the weights ("tokenizer.json", "tokenizer_config.json", ...);
  // empty when absent.
  const std::string& side_file(std::string_view name) const;

  int64_t file_bytes() const { return file_bytes_; }

  // Gives back the memory of a tensor that has been copied elsewhere; it can still be read, from
  // the file again.
  virtual void drop(const TensorSource&) const {}

 protected:
  Checkpoint(CheckpointFormat format, std::string path) : format_(format), path_(std::move(path)) {}
  void index_tensors();  // builds the name index; Error(kBadFile) on a duplicate name

  CheckpointFormat format_;
  std::string path_;
  std::map<std::string, MetaValue, std::less<>> metadata_;
  std::vector<TensorSource> tensors_;
  std::map<std::string, std::string, std::less<>> side_files_;
  int64_t file_bytes_ = 0;

 private:
  std::map<std::string, size_t, std::less<>> index_;
};

// Opens a .gguf file (v2, v3, little-endian) or a Hugging Face folder (config.json, *.safetensors
// with or without an index, tokenizer.json). Throws Error(kBadFile) naming the field that is wrong,
// Error(kUnsupported) for a tensor type or GGUF version that this build does not read,
// Error(kBadArgument) when the path does not exist.
FORERUN_API std::shared_ptr<const Checkpoint> open_checkpoint(const std::string& path);
std::shared_ptr<const Checkpoint> open_gguf(const std::string& path);
std::shared_ptr<const Checkpoint> open_hf_folder(const std::string& path);

}  // namespace forerun
