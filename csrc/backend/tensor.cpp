#include "backend/tensor.h"

#include "backend/backend.h"

namespace forerun {

Buffer::~Buffer() {
  if (backend_ != nullptr && data_ != nullptr) backend_->free(data_, bytes_);
}

}  // namespace forerun
