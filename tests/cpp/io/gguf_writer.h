#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace forerun::test {

template <typename Number>
std::string raw(Number value) {
  std::string bytes(sizeof(Number), '\0');
  std::memcpy(bytes.data(), &value, sizeof(Number));
  return bytes;
}

inline std::string raw_string(std::string_view text) {
  return raw<uint64_t>(text.size()) + std::string(text);
}

// Value type numbers of the format.
enum GgufValue : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

// Writes GGUF files byte by byte from the format's description, with each field open to lies.
struct GgufWriter {
  struct Tensor {
    std::string name;
    std::vector<uint64_t> extents;  // as in the file: innermost first
    uint32_t type;
    std::string data;
    std::optional<uint64_t> offset = {};      // a lie in place of the true one
    std::optional<uint32_t> dimensions = {};  // a lie in place of extents.size()
  };

  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> tensor_count, pair_count;
  uint64_t alignment = 32;
  std::vector<std::string> pairs;
  std::vector<Tensor> tensors;

  // `value` holds the bytes after the type.
  GgufWriter& pair(std::string_view key, uint32_t type, const std::string& value) {
    pairs.push_back(raw_string(key) + raw(type) + value);
    return *this;
  }

  GgufWriter& list(std::string_view key, uint32_t type, uint64_t count, const std::string& items) {
    return pair(key, kArray, raw(type) + raw(count) + items);
  }

  GgufWriter& tensor(Tensor tensor) {
    tensors.push_back(std::move(tensor));
    return *this;
  }

  std::string header() const {
    std::string bytes = magic + raw(version) + raw(tensor_count.value_or(tensors.size())) +
                        raw(pair_count.value_or(pairs.size()));
    for (const std::string& pair : pairs) bytes += pair;
    uint64_t offset = 0;
    for (const Tensor& tensor : tensors) {
      bytes += raw_string(tensor.name);
      bytes += raw(tensor.dimensions.value_or(static_cast<uint32_t>(tensor.extents.size())));
      for (const uint64_t extent : tensor.extents) bytes += raw(extent);
      bytes += raw(tensor.type) + raw(tensor.offset.value_or(offset));
      offset = aligned(offset + tensor.data.size());
    }
    return bytes;
  }

  std::string build() const {
    std::string bytes = header();
    if (tensors.empty()) return bytes;
    bytes.resize(aligned(bytes.size()));
    const size_t data = bytes.size();
    for (const Tensor& tensor : tensors) {
      bytes.resize(data + aligned(bytes.size() - data));
      bytes += tensor.data;
    }
    return bytes;
  }

 private:
  size_t aligned(size_t position) const {
    return (position + alignment - 1) / alignment * alignment;
  }
};

// One tensor of every type that is read, and one metadata value of every kind.
inline GgufWriter full_gguf() {
  GgufWriter file;
  file.pair("general.architecture", kString, raw_string("llama"))
      .pair("a.u8", kU8, raw<uint8_t>(200))
      .pair("a.i8", kI8, raw<int8_t>(-100))
      .pair("a.u16", kU16, raw<uint16_t>(60000))
      .pair("a.i16", kI16, raw<int16_t>(-30000))
      .pair("a.u32", kU32, raw<uint32_t>(4000000000U))
      .pair("a.i32", kI32, raw<int32_t>(-2000000000))
      .pair("a.u64", kU64, raw<uint64_t>(std::numeric_limits<uint64_t>::max()))
      .pair("a.i64", kI64, raw<int64_t>(-9000000000))
      .pair("a.f32", kF32, raw(0.1F))
      .pair("a.f64", kF64, raw(0.1))
      .pair("a.bool", kBool, raw<uint8_t>(1))
      .list("b.i8", kI8, 2, raw<int8_t>(-1) + raw<int8_t>(2))
      .list("b.u16", kU16, 2, raw<uint16_t>(1) + raw<uint16_t>(65535))
      .list("b.i32", kI32, 3, raw<int32_t>(1) + raw<int32_t>(-2) + raw<int32_t>(3))
      .list("b.f32", kF32, 2, raw(-1.5F) + raw(2.25F))
      .list("b.bool", kBool, 3, std::string("\1\0\1", 3))
      .list("b.string", kString, 3, raw_string("one") + raw_string("") + raw_string("\xE2\x82\xAC"))
      .list("b.empty", kU64, 0, "");
  const auto bytes = [](size_t count) {
    std::string data(count, '\0');
    for (size_t i = 0; i < count; ++i) data[i] = static_cast<char>(i * 37 + 11);
    return data;
  };
  file.tensor({"f32", {3, 2}, 0, bytes(24)})
      .tensor({"f16", {3}, 1, bytes(6)})
      .tensor({"bf16", {2, 2, 2}, 30, bytes(16)})
      .tensor({"i8", {5}, 24, bytes(5)})
      .tensor({"i32", {1, 1, 1, 2}, 26, bytes(8)})
      .tensor({"q4_0", {32, 2}, 2, bytes(36)})
      .tensor({"q4_1", {64}, 3, bytes(40)})
      .tensor({"q5_0", {32}, 6, bytes(22)})
      .tensor({"q5_1", {32}, 7, bytes(24)})
      .tensor({"q8_0", {32, 3}, 8, bytes(102)})
      .tensor({"q4_k", {256}, 12, bytes(144)})
      .tensor({"q5_k", {256, 2}, 13, bytes(352)})
      .tensor({"q6_k", {256}, 14, bytes(210)});
  return file;
}

}  // namespace forerun::test
