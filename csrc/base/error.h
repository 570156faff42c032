#pragma once

#include <stdexcept>
#include <string>

#ifndef FORERUN_API
#define FORERUN_API __attribute__((visibility("default")))
#endif

namespace forerun {

// What went wrong, in the terms a caller can act on. Python sees: ValueError,
// forerun.ModelFileError, NotImplementedError, MemoryError, RuntimeError, KeyboardInterrupt and
// forerun.QueueFullError, in this order.
enum class ErrorKind {
  kBadArgument,
  kBadFile,
  kUnsupported,
  kOutOfMemory,
  kDevice,
  kCancelled,
  kBusy
};

// The one exception type of the library. The text says what was wrong, with which object, what was
// expected and what was found. A rejected draft, a full context or a stop token are values, never
// errors.
class FORERUN_API Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& text);
  ~Error() override;
  ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace forerun
