// A Hugging Face model folder: config.json, model.safetensors or the shards that
// model.safetensors.index.json lists, and the tokenizer's files. Pickled weights (*.bin) are never
// read: unpickling runs code.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/checkpoint.h"
#include "io/file_error.h"
#include "io/json.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"

namespace forerun {
namespace {

using nlohmann::json;

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kMaxConfigBytes = 4 * kMiB;
constexpr size_t kMaxIndexBytes = 64 * kMiB;
constexpr size_t kMaxShards = 1024;
constexpr size_t kMaxKeyBytes = 1024;

struct SideFile {
  std::string_view name;
  size_t cap;
};
constexpr std::array kSideFiles = {
    SideFile{"tokenizer.json", 256 * kMiB},    SideFile{"tokenizer_config.json", 16 * kMiB},
    SideFile{"generation_config.json", kMiB},  SideFile{"special_tokens_map.json", 4 * kMiB},
    SideFile{"chat_template.jinja", 4 * kMiB},
};

bool exists(const std::string& path) {
  struct stat status = {};
  return ::stat(path.c_str(), &status) == 0;
}

std::string read_text(const std::string& path, size_t cap) {
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  const std::span<const std::byte> bytes = file->bytes();
  if (bytes.size() > cap) {
    bad_file(path, "file size",
             std::to_string(bytes.size()) + " bytes, expected at most " + std::to_string(cap));
  }
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// Turns config.json into dotted keys. A list of scalars of one kind becomes one value; any other
// list is flattened with its indices as keys. null counts as absent.
class Flattener {
 public:
  using Metadata = std::map<std::string, MetaValue, std::less<>>;

  Flattener(const std::string& path, Metadata& metadata) : path_(path), metadata_(metadata) {}

  void add(const std::string& key, const json& value) {
    if (key.size() > kMaxKeyBytes) {
      bad_file(path_, "key " + in_quotes(key),
               "longer than " + std::to_string(kMaxKeyBytes) + " bytes with its parents");
    }
    if (value.is_object()) return add_members(key, value);
    if (value.is_null()) return;
    if (value.is_array()) return add_list(key, value);
    put(key, scalar(value));
  }

  void add_members(const std::string& key, const json& object) {
    for (const auto& [name, member] : object.items()) {
      add(key.empty() ? name : key + "." + name, member);
    }
  }

 private:
  static bool fits_int64(const json& value) {
    return value.is_number_integer() &&
           (!value.is_number_unsigned() ||
            value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
  }

  static MetaValue scalar(const json& value) {
    if (value.is_boolean()) return value.get<bool>();
    if (value.is_string()) return value.get<std::string>();
    if (fits_int64(value)) return value.get<int64_t>();
    if (value.is_number_unsigned()) return value.get<uint64_t>();
    return value.get<double>();
  }

  template <typename Element>
  void put_list(const std::string& key, const json& list) {
    std::vector<Element> values;
    values.reserve(list.size());
    for (const json& element : list) values.push_back(element.get<Element>());
    put(key, std::move(values));
  }

  void add_list(const std::string& key, const json& list) {
    const auto all = [&list](auto&& has) { return std::all_of(list.begin(), list.end(), has); };
    if (all(fits_int64)) return put_list<int64_t>(key, list);  // an empty list is this one too
    if (all([](const json& e) { return e.is_number(); })) return put_list<double>(key, list);
    if (all([](const json& e) { return e.is_boolean(); })) return put_list<bool>(key, list);
    if (all([](const json& e) { return e.is_string(); })) return put_list<std::string>(key, list);
    for (size_t i = 0; i < list.size(); ++i) add(key + "." + std::to_string(i), list[i]);
  }

  void put(const std::string& key, MetaValue value) {
    if (!metadata_.emplace(key, std::move(value)).second) {
      bad_file(path_, "key " + in_quotes(key),
               "occurs twice once nested keys are joined with dots");
    }
  }

  const std::string& path_;
  Metadata& metadata_;
};

// A shard is a file of the folder itself: a name with a separator could reach any file of the
// machine.
void check_shard_name(const std::string& path, const std::string& name) {
  const bool plain = name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos &&
                     name.size() <= 255 && name.front() != '.' && name.ends_with(".safetensors");
  if (!plain) {
    bad_file(path, "weight_map",
             "shard name " + in_quotes(name) + " is not a plain file name ending in .safetensors");
  }
}

class HfFolder final : public Checkpoint {
 public:
  explicit HfFolder(const std::string& path) : Checkpoint(CheckpointFormat::kHuggingFace, path) {
    read_config();
    for (const SideFile& side : kSideFiles) {
      const std::string file = in_folder(side.name);
      if (exists(file)) side_files_.emplace(side.name, read_text(file, side.cap));
    }
    if (exists(in_folder("model.safetensors"))) {
      add_shard("model.safetensors");
    } else if (exists(in_folder("model.safetensors.index.json"))) {
      read_shards();
    } else {
      bad_file(path_, "weights",
               "neither model.safetensors nor model.safetensors.index.json is in the folder");
    }
    index_tensors();
  }

  void drop(const TensorSource& tensor) const override {
    for (const auto& file : files_) file->drop(tensor.bytes);
  }

 private:
  std::string in_folder(std::string_view name) const { return (path_ + "/").append(name); }

  void read_config() {
    const std::string file = in_folder("config.json");
    if (!exists(file)) bad_file(path_, "config.json", "missing from the folder");
    std::string& text = side_files_["config.json"];
    text = read_text(file, kMaxConfigBytes);
    const json config = parse_json(text, file);
    if (!config.is_object()) bad_file(file, "JSON", "the document is not an object");
    Flattener(file, metadata_).add_members("", config);
  }

  void read_shards() {
    const std::string file = in_folder("model.safetensors.index.json");
    const json index = parse_json(read_text(file, kMaxIndexBytes), file);
    if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
      bad_file(file, "weight_map", "missing or not an object");
    }
    std::set<std::string> shards;
    for (const auto& [name, shard] : index["weight_map"].items()) {
      if (!shard.is_string() || shard.get_ref<const std::string&>().empty()) {
        bad_file(file, "weight_map",
                 "the shard of tensor " + in_quotes(name) + " is not a file name");
      }
      check_shard_name(file, shard.get_ref<const std::string&>());
      shards.insert(shard.get<std::string>());
      if (shards.size() > kMaxShards) {
        bad_file(file, "weight_map", "more than " + std::to_string(kMaxShards) + " shards");
      }
    }
    std::map<std::string, std::string> found_in;
    for (const std::string& shard : shards) {
      const size_t first = tensors_.size();
      add_shard(shard);
      for (size_t i = first; i < tensors_.size(); ++i) found_in.emplace(tensors_[i].name, shard);
    }
    for (const auto& [name, shard] : index["weight_map"].items()) {
      const auto found = found_in.find(name);
      if (found == found_in.end() || found->second != shard.get_ref<const std::string&>()) {
        bad_file(file, "weight_map",
                 "tensor " + in_quotes(name) + " is not in shard " +
                     in_quotes(shard.get<std::string>()));
      }
    }
  }

  void add_shard(const std::string& name) {
    std::shared_ptr<const MappedFile> file = MappedFile::open(in_folder(name));
    std::vector<TensorSource> tensors = read_safetensors(*file);
    std::move(tensors.begin(), tensors.end(), std::back_inserter(tensors_));
    file_bytes_ += static_cast<int64_t>(file->bytes().size());
    files_.push_back(std::move(file));
  }

  std::vector<std::shared_ptr<const MappedFile>> files_;
};

}  // namespace

std::shared_ptr<const Checkpoint> open_hf_folder(const std::string& path) {
  return std::make_shared<const HfFolder>(path);
}

}  // namespace forerun
