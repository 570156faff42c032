#include "io/gguf_metadata.h"

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

namespace forerun {
namespace {

constexpr uint64_t kMaxKeyBytes = 65535;  // the format's own limit
constexpr uint64_t kMaxStringBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxListElements = uint64_t{1}
                                      << 24;       // of all lists together; vocabularies have 2^18
constexpr uint64_t kMinPairBytes = 8 + 1 + 4 + 1;  // key length, key, type, value

enum ValueType : uint32_t {
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

template <typename Stored>
using Widened = std::conditional_t<std::is_floating_point_v<Stored>, double,
                                   std::conditional_t<std::is_signed_v<Stored>, int64_t, uint64_t>>;

bool read_bool(ByteCursor& cursor) {
  const auto byte = cursor.read<uint8_t>("boolean");
  if (byte > 1) cursor.fail("boolean is " + std::to_string(byte) + ", expected 0 or 1");
  return byte == 1;
}

template <typename Stored>
MetaValue read_numbers(ByteCursor& cursor, uint64_t count) {
  cursor.check_count(count, sizeof(Stored), "array length");
  std::vector<Widened<Stored>> values(static_cast<size_t>(count));
  for (auto& value : values) value = cursor.read<Stored>("array element");
  return values;
}

MetaValue read_bools(ByteCursor& cursor, uint64_t count) {
  cursor.check_count(count, 1, "array length");
  std::vector<bool> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = read_bool(cursor);
  return values;
}

MetaValue read_strings(ByteCursor& cursor, uint64_t count) {
  cursor.check_count(count, sizeof(uint64_t), "array length");
  std::vector<std::string> values(static_cast<size_t>(count));
  for (auto& value : values) value = cursor.take_string(kMaxStringBytes, "array element");
  return values;
}

// `budget` is what is left of kMaxListElements: a list in memory is up to eight times its size in
// the file.
MetaValue read_list(ByteCursor& cursor, uint64_t& budget) {
  const auto type = cursor.read<uint32_t>("array element type");
  const auto count = cursor.read<uint64_t>("array length");
  if (type == kArray) cursor.fail_unsupported("an array of arrays");
  if (count > budget) {
    cursor.fail("array length " + std::to_string(count) + ": all arrays together may have " +
                std::to_string(kMaxListElements) + " elements");
  }
  budget -= count;
  switch (type) {
    case kU8:
      return read_numbers<uint8_t>(cursor, count);
    case kI8:
      return read_numbers<int8_t>(cursor, count);
    case kU16:
      return read_numbers<uint16_t>(cursor, count);
    case kI16:
      return read_numbers<int16_t>(cursor, count);
    case kU32:
      return read_numbers<uint32_t>(cursor, count);
    case kI32:
      return read_numbers<int32_t>(cursor, count);
    case kU64:
      return read_numbers<uint64_t>(cursor, count);
    case kI64:
      return read_numbers<int64_t>(cursor, count);
    case kF32:
      return read_numbers<float>(cursor, count);
    case kF64:
      return read_numbers<double>(cursor, count);
    case kBool:
      return read_bools(cursor, count);
    case kString:
      return read_strings(cursor, count);
    default:
      cursor.fail("unknown array element type " + std::to_string(type));
  }
}

template <typename Stored>
MetaValue read_number(ByteCursor& cursor) {
  return static_cast<Widened<Stored>>(cursor.read<Stored>("value"));
}

MetaValue read_value(ByteCursor& cursor, uint64_t& budget) {
  const auto type = cursor.read<uint32_t>("value type");
  switch (type) {
    case kU8:
      return read_number<uint8_t>(cursor);
    case kI8:
      return read_number<int8_t>(cursor);
    case kU16:
      return read_number<uint16_t>(cursor);
    case kI16:
      return read_number<int16_t>(cursor);
    case kU32:
      return read_number<uint32_t>(cursor);
    case kI32:
      return read_number<int32_t>(cursor);
    case kU64:
      return read_number<uint64_t>(cursor);
    case kI64:
      return read_number<int64_t>(cursor);
    case kF32:
      return read_number<float>(cursor);
    case kF64:
      return read_number<double>(cursor);
    case kBool:
      return read_bool(cursor);
    case kString:
      return std::string(cursor.take_string(kMaxStringBytes, "value"));
    case kArray:
      return read_list(cursor, budget);
    default:
      cursor.fail("unknown value type " + std::to_string(type));
  }
}

}  // namespace

std::string read_gguf_name(ByteCursor& cursor, uint64_t cap, std::string_view what) {
  std::string name(cursor.take_string(cap, what));
  if (name.empty()) cursor.fail(std::string(what) + " is empty");
  const auto printable = [](char c) { return c >= 0x20 && c < 0x7F; };
  if (!std::all_of(name.begin(), name.end(), printable)) {
    cursor.fail(std::string(what) + " " + in_quotes(name) + " is not printable ASCII");
  }
  return name;
}

void read_gguf_metadata(ByteCursor& cursor, uint64_t count,
                        std::map<std::string, MetaValue, std::less<>>& metadata) {
  cursor.set_field("metadata count");
  cursor.check_count(count, kMinPairBytes, "pair count");
  uint64_t budget = kMaxListElements;
  for (uint64_t pair = 0; pair < count; ++pair) {
    cursor.set_field("metadata pair " + std::to_string(pair));
    std::string key = read_gguf_name(cursor, kMaxKeyBytes, "key");
    cursor.set_field("metadata key " + in_quotes(key));
    if (metadata.contains(key)) cursor.fail("the key occurs twice");
    metadata.emplace(std::move(key), read_value(cursor, budget));
  }
}

}  // namespace forerun
