#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace forerun {

// A file mapped read-only and private. A file that another process truncates while it is mapped
// raises SIGBUS on access, as with every mapping; replace a model file by renaming a new one over
// it, never in place.
class MappedFile {
 public:
  static std::shared_ptr<const MappedFile> open(
      const std::string& path);  // Error(kBadArgument) with errno's text
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

  // Gives the memory under whole pages of `part` back to the system; they come from the file again
  // when they are read. Does nothing for bytes of another file.
  void drop(std::span<const std::byte> part) const;

 private:
  MappedFile(std::string path, std::span<const std::byte> bytes)
      : path_(std::move(path)), bytes_(bytes) {}
  std::string path_;
  std::span<const std::byte> bytes_;
};

}  // namespace forerun
