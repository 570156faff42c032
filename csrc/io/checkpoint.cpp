#include "io/checkpoint.h"

#include <sys/stat.h>

#include <cerrno>
#include <iterator>
#include <limits>
#include <system_error>

#include "base/error.h"
#include "io/file_error.h"

namespace forerun {
namespace {

std::string metadata_field(std::string_view key) { return "metadata key " + in_quotes(key); }

// Index order of MetaValue's alternatives.
const char* kind_of(const MetaValue& value) {
  static constexpr const char* kNames[] = {"a boolean",
                                           "an integer",
                                           "an unsigned integer",
                                           "a number",
                                           "a string",
                                           "a list of integers",
                                           "a list of unsigned integers",
                                           "a list of numbers",
                                           "a list of booleans",
                                           "a list of strings"};
  static_assert(std::size(kNames) == std::variant_size_v<MetaValue>);
  return kNames[value.index()];
}

[[noreturn]] void wrong_type(const std::string& path, std::string_view key, const char* wanted,
                             const MetaValue& value) {
  bad_file(path, metadata_field(key), std::string(wanted) + " expected, found " + kind_of(value));
}

[[noreturn]] void missing(const std::string& path, std::string_view key) {
  bad_file(path, metadata_field(key), "missing");
}

int64_t as_integer(const std::string& path, std::string_view key, const MetaValue& value) {
  if (const auto* integer = std::get_if<int64_t>(&value)) return *integer;
  if (const auto* integer = std::get_if<uint64_t>(&value)) {
    if (*integer <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return static_cast<int64_t>(*integer);
    }
    bad_file(path, metadata_field(key), std::to_string(*integer) + " does not fit 63 bits");
  }
  wrong_type(path, key, "an integer", value);
}

double as_number(const std::string& path, std::string_view key, const MetaValue& value) {
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* integer = std::get_if<int64_t>(&value)) return static_cast<double>(*integer);
  if (const auto* integer = std::get_if<uint64_t>(&value)) return static_cast<double>(*integer);
  wrong_type(path, key, "a number", value);
}

const std::string& as_text(const std::string& path, std::string_view key, const MetaValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  wrong_type(path, key, "a string", value);
}

}  // namespace

const TensorSource* Checkpoint::find_tensor(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const TensorSource& Checkpoint::tensor(std::string_view name) const {
  if (const TensorSource* found = find_tensor(name)) return *found;
  bad_file(path_, "tensor " + in_quotes(name), "missing");
}

const MetaValue* Checkpoint::find(std::string_view key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

int64_t Checkpoint::integer(std::string_view key) const {
  const MetaValue* value = find(key);
  if (value == nullptr) missing(path_, key);
  return as_integer(path_, key, *value);
}

int64_t Checkpoint::integer(std::string_view key, int64_t fallback) const {
  const MetaValue* value = find(key);
  return value == nullptr ? fallback : as_integer(path_, key, *value);
}

double Checkpoint::number(std::string_view key) const {
  const MetaValue* value = find(key);
  if (value == nullptr) missing(path_, key);
  return as_number(path_, key, *value);
}

double Checkpoint::number(std::string_view key, double fallback) const {
  const MetaValue* value = find(key);
  return value == nullptr ? fallback : as_number(path_, key, *value);
}

bool Checkpoint::boolean(std::string_view key, bool fallback) const {
  const MetaValue* value = find(key);
  if (value == nullptr) return fallback;
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  wrong_type(path_, key, "a boolean", *value);
}

const std::string& Checkpoint::text(std::string_view key) const {
  const MetaValue* value = find(key);
  if (value == nullptr) missing(path_, key);
  return as_text(path_, key, *value);
}

std::string Checkpoint::text(std::string_view key, std::string_view fallback) const {
  const MetaValue* value = find(key);
  return value == nullptr ? std::string(fallback) : as_text(path_, key, *value);
}

const std::vector<std::string>* Checkpoint::texts(std::string_view key) const {
  const MetaValue* value = find(key);
  if (value == nullptr) return nullptr;
  if (const auto* list = std::get_if<std::vector<std::string>>(value)) return list;
  wrong_type(path_, key, "a list of strings", *value);
}

const std::string& Checkpoint::side_file(std::string_view name) const {
  static const std::string kEmpty;
  const auto found = side_files_.find(name);
  return found == side_files_.end() ? kEmpty : found->second;
}

void Checkpoint::index_tensors() {
  index_.clear();
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (!index_.emplace(tensors_[i].name, i).second) {
      bad_file(path_, "tensor " + in_quotes(tensors_[i].name), "the name occurs twice");
    }
  }
}

std::shared_ptr<const Checkpoint> open_checkpoint(const std::string& path) {
  struct stat status = {};
  if (path.find('\0') != std::string::npos) {
    throw Error(ErrorKind::kBadArgument, "a file path holds a NUL byte");
  }
  if (::stat(path.c_str(), &status) != 0) {
    const int code = errno;
    throw Error(ErrorKind::kBadArgument,
                path + ": cannot open: " + std::generic_category().message(code));
  }
  if (S_ISDIR(status.st_mode)) return open_hf_folder(path);
  if (path.ends_with(".safetensors")) {
    throw Error(ErrorKind::kBadArgument,
                path +
                    ": a safetensors file carries no configuration; give the folder that holds "
                    "it and config.json");
  }
  return open_gguf(path);
}

}  // namespace forerun
