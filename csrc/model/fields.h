#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/error.h"
#include "io/checkpoint.h"

namespace forerun {

inline constexpr int32_t kMaxLayers = 1024;
inline constexpr int32_t kMaxWidth = 1 << 20;

// Looks up the fields of one checkpoint and names them in errors.
class Fields {
 public:
  Fields(const Checkpoint& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  [[noreturn]] void fail(const std::string& key, const std::string& why) const {
    throw Error(ErrorKind::kBadFile, file_.path() + ": " + prefix_ + key + " " + why);
  }
  bool has(const std::string& key) const { return file_.find(prefix_ + key) != nullptr; }
  int32_t count(const std::string& key, int32_t low, int32_t high) const {
    return checked(key, file_.integer(prefix_ + key), low, high);
  }
  int32_t count(const std::string& key, int32_t low, int32_t high, int32_t fallback) const {
    return checked(key, file_.integer(prefix_ + key, fallback), low, high);
  }
  float number(const std::string& key, double low, double high, double fallback) const {
    const double value = file_.number(prefix_ + key, fallback);
    if (!(value >= low && value <= high)) {
      fail(key, "is " + std::to_string(value) + ", expected " + std::to_string(low) + " to " +
                    std::to_string(high));
    }
    return static_cast<float>(value);
  }
  std::string text(const std::string& key, const std::string& fallback) const {
    return file_.text(prefix_ + key, fallback);
  }
  bool flag(const std::string& key, bool fallback) const {
    return file_.boolean(prefix_ + key, fallback);
  }

 private:
  int32_t checked(const std::string& key, int64_t value, int32_t low, int32_t high) const {
    if (value < low || value > high) {
      fail(key, "is " + std::to_string(value) + ", expected " + std::to_string(low) + " to " +
                    std::to_string(high));
    }
    return static_cast<int32_t>(value);
  }

  const Checkpoint& file_;
  std::string prefix_;
};

}  // namespace forerun
