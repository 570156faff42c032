#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

namespace forerun {

// Options of all methods of an engine: "suffix.max_bytes" -> "64M".
using MethodOptions = std::map<std::string, std::string>;

// The options of one method, read by their getters with a default; done() then refuses what nobody
// asked for. Every refusal is Error(kBadArgument) naming the method, the option, what was found and
// what is expected.
class Settings {
 public:
  Settings() = default;
  Settings(std::string method, const MethodOptions& all);  // those that begin with "method."

  int64_t integer(const std::string& key, int64_t fallback, int64_t low, int64_t high);
  double real(const std::string& key, double fallback, double low, double high);
  int64_t bytes(const std::string& key, int64_t fallback);  // "65536", "64K", "64M", "1G"
  std::string text(const std::string& key, const std::string& fallback);
  // One of `values`; the first is the default.
  std::string choice(const std::string& key, std::initializer_list<const char*> values);
  void done() const;

  const std::string& method() const { return method_; }

 private:
  const std::string* find(const std::string& key);
  [[noreturn]] void refuse(const std::string& key, const std::string& expected) const;

  std::string method_;
  std::map<std::string, std::string> values_;
  std::vector<std::string> known_;
};

}  // namespace forerun
