#pragma once

#include <cstdint>
#include <memory>

#include "backend/backend.h"
#include "backend/cpu/memory.h"
#include "base/thread_pool.h"

namespace forerun {

// A matrix as panels of 16 outputs (packed.h).
class CpuWeight : public Weight {
 public:
  int32_t panels = 0;
  int32_t blocks = 0;  // superblocks, blocks of 32, or inputs, of one panel
  int64_t panel_bytes = 0;
  PagePiece memory;
};

std::unique_ptr<CpuWeight> pack_panels(const HostMatrix& matrix, PageArena& arena,
                                       ThreadPool& pool);

}  // namespace forerun
