#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/byte_cursor.h"
#include "io/mapped_file.h"

namespace forerun {

// What drafters learnt, kept between runs: named sections of bytes for one vocabulary.
//   "FRDRAFT1", sections u32, 0 u32, fingerprint of the vocabulary u64, hash of the above u64;
//   per section: name char[16] filled up with zeros, bytes u64, hash of name and bytes u64, the
//   bytes.
// All little-endian. A file that is short, long, altered or of another vocabulary is refused with
// Error(kBadFile).
class StateWriter {
 public:
  explicit StateWriter(uint64_t fingerprint) : fingerprint_(fingerprint) {}
  void begin_section(std::string_view name);  // at most 15 characters
  template <typename Number>
  void put(Number value) {
    sections_.back().bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  template <typename Number>
  void put_all(std::span<const Number> values) {
    sections_.back().bytes.append(reinterpret_cast<const char*>(values.data()),
                                  values.size_bytes());
  }
  void put_text(std::string_view text);  // length u64 and bytes
  // Replaces the file at once, so that a reader finds the old or the new one whole.
  // Error(kBadArgument) when it cannot be written.
  void write(const std::string& path) const;

 private:
  struct Section {
    std::string name, bytes;
  };
  uint64_t fingerprint_;
  std::vector<Section> sections_;
};

class StateReader {
 public:
  // Checks the whole file.
  StateReader(const std::string& path, uint64_t fingerprint);
  // Error(kBadFile) when the file has no such section.
  ByteCursor section(std::string_view name) const;

 private:
  struct Section {
    std::string name;
    std::span<const std::byte> bytes;
  };
  std::shared_ptr<const MappedFile> file_;
  std::vector<Section> sections_;
};

}  // namespace forerun
