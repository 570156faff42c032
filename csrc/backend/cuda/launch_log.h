#pragma once

#include <cstddef>
#include <cstring>
#include <type_traits>
#include <vector>

namespace forerun::cuda {

// What launches were asked for, as bytes: kernels, grids, shared memory, arguments, with zeros
// where an argument has no value (padding). Two sequences of launches with the same bytes do the
// same with the same buffers.
class LaunchLog {
 public:
  template <typename T>
  void add(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    T copy = value;
    __builtin_clear_padding(&copy);
    const size_t at = bytes_.size();
    bytes_.resize(at + sizeof(T));
    std::memcpy(bytes_.data() + at, &copy, sizeof(T));
  }
  void clear() { bytes_.clear(); }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

// Of the calling thread: while one is set, launches are noted in it and not done.
LaunchLog*& launch_log();

}  // namespace forerun::cuda
