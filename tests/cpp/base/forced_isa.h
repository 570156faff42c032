#pragma once

#include <cstdlib>
#include <optional>
#include <string>

namespace forerun::test {

// FORERUN_ISA for a scope; afterwards it is what it was, so that a whole run can be forced.
class ForcedIsa {
 public:
  explicit ForcedIsa(const char* value) {  // nullptr: nothing forced
    if (const char* old = std::getenv("FORERUN_ISA")) before_ = old;
    set(value);
  }
  ~ForcedIsa() { set(before_ ? before_->c_str() : nullptr); }
  ForcedIsa(const ForcedIsa&) = delete;
  ForcedIsa& operator=(const ForcedIsa&) = delete;

 private:
  static void set(const char* value) {
    if (value != nullptr) {
      setenv("FORERUN_ISA", value, 1);
    } else {
      unsetenv("FORERUN_ISA");
    }
  }
  std::optional<std::string> before_;
};

}  // namespace forerun::test
