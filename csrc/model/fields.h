#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

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
  // Signed or not, as the writer chose.
  std::vector<int64_t> integers(const std::string& key) const {
    const MetaValue* value = file_.find(prefix_ + key);
    if (value == nullptr) fail(key, "is missing");
    if (const auto* list = std::get_if<std::vector<int64_t>>(value)) return *list;
    const auto* list = std::get_if<std::vector<uint64_t>>(value);
    if (list == nullptr) fail(key, "is not a list of integers");
    std::vector<int64_t> out;
    for (const uint64_t item : *list) {
      out.push_back(static_cast<int64_t>(std::min(item, uint64_t{1} << 62)));
    }
    return out;
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
