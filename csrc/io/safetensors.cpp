#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "io/byte_cursor.h"
#include "io/file_error.h"
#include "io/json.h"

namespace forerun {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference reader's own limit
constexpr size_t kMaxDims = 8;
constexpr size_t kMaxNameBytes = 1024;

struct Entry {
  TensorSource tensor;
  uint64_t begin = 0, end = 0;
};

// The fields of one tensor's header entry, with its name for the error texts.
class EntryReader {
 public:
  EntryReader(const std::string& path, const std::string& name, const json& fields)
      : path_(path), field_("tensor " + in_quotes(name)), fields_(fields) {
    if (name.empty() || name.size() > kMaxNameBytes) {
      fail("the name has " + std::to_string(name.size()) + " bytes, expected 1 to " +
           std::to_string(kMaxNameBytes));
    }
    if (!fields.is_object()) fail("its entry is not a JSON object");
  }

  DType dtype() const {
    static constexpr std::array<std::pair<std::string_view, DType>, 5> kTypes{{
        {"F32", DType::kF32},
        {"F16", DType::kF16},
        {"BF16", DType::kBF16},
        {"I32", DType::kI32},
        {"I8", DType::kI8},
    }};
    const json& value = member("dtype");
    if (!value.is_string()) fail("dtype is not a string");
    const auto& name = value.get_ref<const std::string&>();
    for (const auto& [known, dtype] : kTypes) {
      if (name == known) return dtype;
    }
    unsupported_file(path_, field_, "dtype " + in_quotes(name) + " is not supported");
  }

  std::vector<int64_t> shape() const {
    const json& value = member("shape");
    if (!value.is_array() || value.size() > kMaxDims) {
      fail("shape is not a list of at most " + std::to_string(kMaxDims) + " extents");
    }
    std::vector<int64_t> shape;
    for (const json& extent : value) {
      if (!extent.is_number_unsigned() || extent.get<uint64_t>() == 0 ||
          extent.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        fail("shape holds " +
             in_quotes(extent.dump(-1, ' ', true, json::error_handler_t::replace)) +
             ", expected whole numbers of at least 1");
      }
      shape.push_back(extent.get<int64_t>());
    }
    return shape;
  }

  std::pair<uint64_t, uint64_t> offsets(uint64_t data_bytes) const {
    const json& value = member("data_offsets");
    if (!value.is_array() || value.size() != 2 || !value[0].is_number_unsigned() ||
        !value[1].is_number_unsigned()) {
      fail("data_offsets is not a pair of whole numbers");
    }
    const auto begin = value[0].get<uint64_t>();
    const auto end = value[1].get<uint64_t>();
    if (begin > end || end > data_bytes) {
      fail("data_offsets [" + std::to_string(begin) + ", " + std::to_string(end) +
           "] do not lie in the data of " + std::to_string(data_bytes) + " bytes");
    }
    return {begin, end};
  }

  void check_size(const TensorSource& tensor, uint64_t found) const {
    int64_t bytes = dtype_info(tensor.dtype).block_bytes;
    for (const int64_t extent : tensor.shape) {
      if (__builtin_mul_overflow(bytes, extent, &bytes)) {
        fail("the product of the extents overflows 63 bits");
      }
    }
    if (static_cast<uint64_t>(bytes) != found) {
      fail("shape and dtype need " + std::to_string(bytes) + " bytes, data_offsets give " +
           std::to_string(found));
    }
  }

 private:
  [[noreturn]] void fail(std::string_view what) const { bad_file(path_, field_, what); }

  const json& member(const char* name) const {
    const auto found = fields_.find(name);
    if (found == fields_.end()) fail(std::string(name) + " is missing");
    return *found;
  }

  const std::string& path_;
  std::string field_;
  const json& fields_;
};

void check_coverage(const std::string& path, const std::vector<Entry>& entries,
                    uint64_t data_bytes) {
  uint64_t covered = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != covered) {
      bad_file(path, "tensor " + in_quotes(entry.tensor.name),
               "data_offsets begin at " + std::to_string(entry.begin) +
                   ", the tensor before it ends at " + std::to_string(covered));
    }
    covered = entry.end;
  }
  if (covered != data_bytes) {
    bad_file(path, "data",
             std::to_string(data_bytes) + " bytes, of which the tensors cover " +
                 std::to_string(covered));
  }
}

}  // namespace

std::vector<TensorSource> read_safetensors(const MappedFile& file) {
  ByteCursor cursor(file.bytes(), file.path());
  const std::string_view text = cursor.take_string(kMaxHeaderBytes, "header");
  const std::span<const std::byte> data = file.bytes().subspan(cursor.position());
  const json header = parse_json(text, file.path());
  if (!header.is_object()) cursor.fail("the header is not a JSON object");

  std::vector<Entry> entries;
  entries.reserve(header.size());
  for (const auto& [name, fields] : header.items()) {
    if (name == "__metadata__") continue;
    const EntryReader reader(file.path(), name, fields);
    Entry& entry = entries.emplace_back();
    entry.tensor.name = name;
    entry.tensor.dtype = reader.dtype();
    entry.tensor.shape = reader.shape();
    std::tie(entry.begin, entry.end) = reader.offsets(data.size());
    reader.check_size(entry.tensor, entry.end - entry.begin);
    entry.tensor.bytes = data.subspan(static_cast<size_t>(entry.begin),
                                      static_cast<size_t>(entry.end - entry.begin));
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.begin < b.begin; });
  check_coverage(file.path(), entries, data.size());

  std::vector<TensorSource> tensors;
  tensors.reserve(entries.size());
  for (Entry& entry : entries) tensors.push_back(std::move(entry.tensor));
  return tensors;
}

}  // namespace forerun
