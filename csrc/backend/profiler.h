#pragma once

#include <memory>

#include "backend/backend.h"
#include "base/trace.h"

namespace forerun {

// A back end that does what `inner` does and records a span for every operation of a forward: name,
// time, and the bytes and arithmetic operations that it needs. Names are those of the operations;
// products bear the role of their first task. Bytes of a product are those of its
// weights, of attention those of the visible keys and values, of the others their operands as
// fp32. An operation is waited for, so that its time is its own on a device that queues.
std::unique_ptr<Backend> make_profiling_backend(std::unique_ptr<Backend> inner,
                                                std::shared_ptr<TraceRecorder> recorder);

}  // namespace forerun
