#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

#include "base/error.h"

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>  // its macros do nothing unless AddressSanitizer is on
#else
#define ASAN_POISON_MEMORY_REGION(address, size) \
  (static_cast<void>(address), static_cast<void>(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ASAN_POISON_MEMORY_REGION(address, size)
#endif

namespace forerun {
namespace {

// The bytes between the end of the file and the end of its last page: mapped, but not the file's.
std::span<const std::byte> tail_of(std::span<const std::byte> bytes) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t past = bytes.size() % page;
  return {bytes.data() + bytes.size(), past == 0 ? 0 : page - past};
}

[[noreturn]] void refuse(const std::string& path, const char* action, int code) {
  const ErrorKind kind = code == ENOMEM ? ErrorKind::kOutOfMemory : ErrorKind::kBadArgument;
  throw Error(kind, path + ": cannot " + action + ": " + std::generic_category().message(code));
}

struct Descriptor {
  int fd;
  ~Descriptor() { ::close(fd); }
};

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  if (path.find('\0') != std::string::npos) {
    throw Error(ErrorKind::kBadArgument, "a file path holds a NUL byte");
  }
  // O_NONBLOCK: opening a pipe returns at once and is then refused, rather than waiting for a
  // writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) refuse(path, "open", errno);
  const Descriptor descriptor{fd};

  struct stat status = {};
  if (::fstat(fd, &status) != 0) refuse(path, "stat", errno);
  if (S_ISDIR(status.st_mode)) {
    throw Error(ErrorKind::kBadArgument, path + ": a folder, expected a file");
  }
  if (!S_ISREG(status.st_mode)) {
    throw Error(ErrorKind::kBadArgument, path + ": not a regular file");
  }

  const auto size = static_cast<size_t>(status.st_size);
  std::span<const std::byte> bytes;
  if (size > 0) {  // an empty file cannot be mapped; it reads as no bytes
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) refuse(path, "map", errno);
    bytes = {static_cast<const std::byte*>(address), size};
    ASAN_POISON_MEMORY_REGION(tail_of(bytes).data(), tail_of(bytes).size());
  }
  return std::shared_ptr<const MappedFile>(new MappedFile(path, bytes));
}

void MappedFile::drop(std::span<const std::byte> part) const {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<uintptr_t>(bytes_.data());
  const auto begin = (reinterpret_cast<uintptr_t>(part.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(part.data() + part.size()) / page * page;
  if (begin < start || end > start + bytes_.size() || begin >= end) return;
  ::madvise(const_cast<std::byte*>(bytes_.data()) + (begin - start), end - begin, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (bytes_.empty()) return;
  ASAN_UNPOISON_MEMORY_REGION(tail_of(bytes_).data(), tail_of(bytes_).size());
  ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace forerun
