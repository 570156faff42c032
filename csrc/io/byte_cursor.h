#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "io/file_error.h"

namespace forerun {

static_assert(std::endian::native == std::endian::little, "file fields are read as they lie");

// A position in a file's bytes that never leaves them: each read first compares what it needs with
// what remains, so no sum of untrusted numbers is ever formed. `field` names what is being read in
// the error texts.
class ByteCursor {
 public:
  ByteCursor(std::span<const std::byte> bytes, const std::string& path)
      : bytes_(bytes), path_(path) {}

  void set_field(std::string field) { field_ = std::move(field); }

  size_t position() const { return position_; }
  size_t remaining() const { return bytes_.size() - position_; }

  template <typename Number>
  Number read(std::string_view what) {
    Number value;
    std::memcpy(&value, take(sizeof(Number), what).data(), sizeof(Number));
    return value;
  }

  std::string_view take(uint64_t bytes, std::string_view what) {
    if (bytes > remaining()) {
      fail(std::string(what) + " needs " + std::to_string(bytes) + " bytes at offset " +
           std::to_string(position_) + ", the file has " + std::to_string(remaining()) + " more");
    }
    const std::string_view taken(reinterpret_cast<const char*>(bytes_.data()) + position_,
                                 static_cast<size_t>(bytes));
    position_ += static_cast<size_t>(bytes);
    return taken;
  }

  // A 64-bit length and that many bytes.
  std::string_view take_string(uint64_t cap, std::string_view what) {
    const auto length = read<uint64_t>("length");
    if (length > cap) {
      fail(std::string(what) + " length " + std::to_string(length) + " is above " +
           std::to_string(cap));
    }
    return take(length, what);
  }

  // A count of items that take at least `item_bytes` each: one that the rest of the file cannot
  // hold is refused before anything is reserved for it.
  void check_count(uint64_t count, uint64_t item_bytes, std::string_view what) const {
    if (count > remaining() / item_bytes) {
      fail(std::string(what) + " " + std::to_string(count) + " cannot fit in the remaining " +
           std::to_string(remaining()) + " bytes");
    }
  }

  [[noreturn]] void fail(std::string_view what) const { bad_file(path_, field_, what); }
  [[noreturn]] void fail_unsupported(std::string_view what) const {
    unsupported_file(path_, field_, what);
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& path_;
  std::string field_ = "header";
  size_t position_ = 0;
};

}  // namespace forerun
