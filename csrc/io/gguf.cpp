// GGUF v2 and v3 (docs/gguf.md of ggml). Everything is little-endian:
//   magic "GGUF", u32 version, u64 tensors, u64 pairs, the pairs, the tensor descriptions, padding,
//   the data.
#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/byte_cursor.h"
#include "io/checkpoint.h"
#include "io/gguf_metadata.h"
#include "io/mapped_file.h"

namespace forerun {
namespace {

constexpr uint64_t kMaxTensorNameBytes = 255;
constexpr uint32_t kMaxDims = 4;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMinAlignment =
    8;  // the format's own; it also keeps every view aligned for its type
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;
constexpr uint64_t kMinTensorBytes =
    8 + 1 + 4 + 8 + 4 + 8;  // name, dimension count, one extent, type, offset

struct GgmlType {
  uint32_t id;
  std::string_view name;
  std::optional<DType> dtype;  // none: known, not read by this build
};

constexpr std::array kTypes = {
    GgmlType{0, "F32", DType::kF32},
    GgmlType{1, "F16", DType::kF16},
    GgmlType{2, "Q4_0", DType::kQ4_0},
    GgmlType{3, "Q4_1", DType::kQ4_1},
    GgmlType{6, "Q5_0", DType::kQ5_0},
    GgmlType{7, "Q5_1", DType::kQ5_1},
    GgmlType{8, "Q8_0", DType::kQ8_0},
    GgmlType{9, "Q8_1", {}},
    GgmlType{10, "Q2_K", {}},
    GgmlType{11, "Q3_K", {}},
    GgmlType{12, "Q4_K", DType::kQ4_K},
    GgmlType{13, "Q5_K", DType::kQ5_K},
    GgmlType{14, "Q6_K", DType::kQ6_K},
    GgmlType{15, "Q8_K", {}},
    GgmlType{16, "IQ2_XXS", {}},
    GgmlType{17, "IQ2_XS", {}},
    GgmlType{18, "IQ3_XXS", {}},
    GgmlType{19, "IQ1_S", {}},
    GgmlType{20, "IQ4_NL", {}},
    GgmlType{21, "IQ3_S", {}},
    GgmlType{22, "IQ2_S", {}},
    GgmlType{23, "IQ4_XS", {}},
    GgmlType{24, "I8", DType::kI8},
    GgmlType{25, "I16", {}},
    GgmlType{26, "I32", DType::kI32},
    GgmlType{27, "I64", {}},
    GgmlType{28, "F64", {}},
    GgmlType{29, "IQ1_M", {}},
    GgmlType{30, "BF16", DType::kBF16},
    GgmlType{34, "TQ1_0", {}},
    GgmlType{35, "TQ2_0", {}},
    GgmlType{39, "MXFP4", {}},
    GgmlType{40, "NVFP4", {}},
};

class GgufFile final : public Checkpoint {
 public:
  explicit GgufFile(const std::string& path)
      : Checkpoint(CheckpointFormat::kGguf, path), file_(MappedFile::open(path)) {
    file_bytes_ = static_cast<int64_t>(file_->bytes().size());
    ByteCursor cursor(file_->bytes(), path_);
    read_version(cursor);
    const auto tensors = cursor.read<uint64_t>("tensor count");
    const auto pairs = cursor.read<uint64_t>("metadata count");
    read_gguf_metadata(cursor, pairs, metadata_);
    refuse_a_part(cursor);
    const uint64_t alignment = read_alignment(cursor);
    const std::vector<uint64_t> offsets = read_tensors(cursor, tensors, alignment);
    place_tensors(cursor, offsets, alignment);
    index_tensors();
  }

  void drop(const TensorSource& tensor) const override { file_->drop(tensor.bytes); }

 private:
  static void read_version(ByteCursor& cursor);
  void refuse_a_part(ByteCursor& cursor) const;
  uint64_t read_alignment(ByteCursor& cursor) const;
  std::vector<uint64_t> read_tensors(ByteCursor& cursor, uint64_t count, uint64_t alignment);
  void place_tensors(ByteCursor& cursor, const std::vector<uint64_t>& offsets, uint64_t alignment);

  std::shared_ptr<const MappedFile> file_;
};

void GgufFile::read_version(ByteCursor& cursor) {
  const std::string_view magic = cursor.take(4, "magic");
  if (magic != "GGUF") cursor.fail("magic is " + in_quotes(magic) + ", expected 'GGUF'");
  const auto version = cursor.read<uint32_t>("version");
  if (version == 2 || version == 3) return;
  if (const uint32_t swapped = __builtin_bswap32(version); swapped >= 1 && swapped <= 0xFFFF) {
    cursor.fail_unsupported("the file is big-endian (version field " + std::to_string(swapped) +
                            " after a byte swap); only little-endian files are read");
  }
  cursor.fail_unsupported("GGUF version " + std::to_string(version) + ", expected 2 or 3");
}

void GgufFile::refuse_a_part(ByteCursor& cursor) const {
  if (const int64_t parts = integer("split.count", 1); parts > 1) {
    cursor.set_field("metadata key 'split.count'");
    cursor.fail_unsupported("the model is split over " + std::to_string(parts) +
                            " files; join them into one");
  }
}

uint64_t GgufFile::read_alignment(ByteCursor& cursor) const {
  const MetaValue* value = find("general.alignment");
  if (value == nullptr) return kDefaultAlignment;
  cursor.set_field("metadata key 'general.alignment'");
  const auto* alignment = std::get_if<uint64_t>(value);
  if (alignment == nullptr) cursor.fail("an unsigned integer expected");
  if (!std::has_single_bit(*alignment) || *alignment < kMinAlignment ||
      *alignment > kMaxAlignment) {
    cursor.fail(std::to_string(*alignment) + " is not a power of two between " +
                std::to_string(kMinAlignment) + " and " + std::to_string(kMaxAlignment));
  }
  return *alignment;
}

std::vector<int64_t> read_shape(ByteCursor& cursor) {
  const auto dims = cursor.read<uint32_t>("dimension count");
  if (dims < 1 || dims > kMaxDims) {
    cursor.fail("dimension count is " + std::to_string(dims) + ", expected 1 to " +
                std::to_string(kMaxDims));
  }
  std::vector<int64_t> shape(dims);
  for (int64_t& extent : shape) {
    extent = cursor.read<int64_t>("extent");
    if (extent <= 0) cursor.fail("extent is " + std::to_string(extent) + ", expected at least 1");
  }
  std::reverse(shape.begin(), shape.end());  // the file has the innermost first
  return shape;
}

DType read_type(ByteCursor& cursor) {
  const auto id = cursor.read<uint32_t>("tensor type");
  const auto* type = std::find_if(kTypes.begin(), kTypes.end(),
                                  [id](const GgmlType& known) { return known.id == id; });
  if (type == kTypes.end()) {
    cursor.fail_unsupported("unknown tensor type " + std::to_string(id));
  }
  if (!type->dtype) {
    cursor.fail_unsupported("tensor type " + std::string(type->name) + " (" + std::to_string(id) +
                            ") is not supported");
  }
  return *type->dtype;
}

// Descriptions only: `bytes` of each tensor gets its length from shape and type in place_tensors.
std::vector<uint64_t> GgufFile::read_tensors(ByteCursor& cursor, uint64_t count,
                                             uint64_t alignment) {
  cursor.set_field("tensor count");
  cursor.check_count(count, kMinTensorBytes, "tensor count");
  std::vector<uint64_t> offsets;
  offsets.reserve(static_cast<size_t>(count));
  tensors_.reserve(static_cast<size_t>(count));
  for (uint64_t i = 0; i < count; ++i) {
    TensorSource& tensor = tensors_.emplace_back();
    cursor.set_field("tensor " + std::to_string(i));
    tensor.name = read_gguf_name(cursor, kMaxTensorNameBytes, "name");
    cursor.set_field("tensor " + in_quotes(tensor.name));
    tensor.shape = read_shape(cursor);
    tensor.dtype = read_type(cursor);
    const auto offset = cursor.read<uint64_t>("offset");
    if (offset % alignment != 0) {
      cursor.fail("offset " + std::to_string(offset) + " is not a multiple of the alignment " +
                  std::to_string(alignment));
    }
    offsets.push_back(offset);
  }
  return offsets;
}

uint64_t tensor_bytes(const ByteCursor& cursor, const TensorSource& tensor) {
  const DTypeInfo& info = dtype_info(tensor.dtype);
  const int64_t row = tensor.shape.back();
  if (row % info.block != 0) {
    cursor.fail("rows of " + std::to_string(row) + " elements do not fill blocks of " +
                std::string(info.name) + " (" + std::to_string(info.block) + " each)");
  }
  int64_t bytes = info.block_bytes;
  bool fits = !__builtin_mul_overflow(bytes, row / info.block, &bytes);
  for (size_t axis = 0; axis + 1 < tensor.shape.size(); ++axis) {
    fits = fits && !__builtin_mul_overflow(bytes, tensor.shape[axis], &bytes);
  }
  if (!fits) cursor.fail("the product of the extents overflows 63 bits");
  return static_cast<uint64_t>(bytes);
}

void GgufFile::place_tensors(ByteCursor& cursor, const std::vector<uint64_t>& offsets,
                             uint64_t alignment) {
  if (tensors_.empty()) return;
  cursor.set_field("tensor data");
  const uint64_t past = cursor.position() % alignment;
  cursor.take(past == 0 ? 0 : alignment - past, "padding");
  const std::span<const std::byte> data = file_->bytes().subspan(cursor.position());

  std::vector<size_t> by_offset(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    TensorSource& tensor = tensors_[i];
    cursor.set_field("tensor " + in_quotes(tensor.name));
    const uint64_t bytes = tensor_bytes(cursor, tensor);
    if (offsets[i] > data.size() || bytes > data.size() - offsets[i]) {
      cursor.fail(std::to_string(bytes) + " bytes at offset " + std::to_string(offsets[i]) +
                  " end past the tensor data of " + std::to_string(data.size()) + " bytes");
    }
    tensor.bytes = data.subspan(static_cast<size_t>(offsets[i]), static_cast<size_t>(bytes));
    by_offset[i] = i;
  }

  std::sort(by_offset.begin(), by_offset.end(),
            [&](size_t a, size_t b) { return offsets[a] < offsets[b]; });
  for (size_t k = 1; k < by_offset.size(); ++k) {
    const TensorSource& before = tensors_[by_offset[k - 1]];
    const TensorSource& after = tensors_[by_offset[k]];
    if (after.bytes.data() < before.bytes.data() + before.bytes.size()) {
      cursor.set_field("tensor " + in_quotes(after.name));
      cursor.fail("its data overlaps that of tensor " + in_quotes(before.name));
    }
  }
}

}  // namespace

std::shared_ptr<const Checkpoint> open_gguf(const std::string& path) {
  return std::make_shared<const GgufFile>(path);
}

}  // namespace forerun
