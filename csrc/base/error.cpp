#include "base/error.h"

namespace forerun {

Error::Error(ErrorKind kind, const std::string& text) : std::runtime_error(text), kind_(kind) {}
Error::~Error() = default;

}  // namespace forerun
