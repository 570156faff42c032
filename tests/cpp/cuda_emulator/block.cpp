#include "cuda_emulator/block.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "cuda_emulator/report.h"

forerun::emulated::Index3 threadIdx, blockIdx, blockDim, gridDim;

namespace forerun::emulated {

Running running;

namespace {

constexpr int kMaxThreads = 1024;
constexpr size_t kMaxShared = 256 * 1024;

// The dynamic shared memory of the block that runs: its end lies at a page that nobody may touch.
class SharedMemory {
 public:
  SharedMemory() {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void* memory = mmap(nullptr, kMaxShared + page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    end_ = static_cast<std::byte*>(memory) + kMaxShared;
    mprotect(end_, page, PROT_NONE);
  }
  std::byte* poisoned(size_t bytes) {
    const size_t size = (bytes + 15) / 16 * 16;
    std::memset(end_ - size, kPoison, size);
    return end_ - size;
  }

 private:
  std::byte* end_ = nullptr;
};

struct Block {
  std::vector<Lane> lanes = std::vector<Lane>(kMaxThreads);
  std::vector<Warp> warps = std::vector<Warp>(kMaxThreads / kWarpSize);
  SharedMemory shared;
  int32_t threads = 0;
  int32_t alive = 0;
  int32_t at_barrier = 0;
};
Block& block() {
  static auto* one = new Block;
  return *one;
}

void run_thread() {
  running.launch->body();
  Lane& lane = *running.lane;
  lane.state = LaneState::kDone;
  if (!lane.copies.empty()) fault("a thread ended with copies to shared memory under way");
  --block().alive;
  lane.fiber.leave();
}

void pause(LaneState state) {
  Lane& lane = *running.lane;
  lane.state = state;
  lane.fiber.leave();
}

void prepare(const Launch& launch) {
  Block& all = block();
  all.threads = static_cast<int32_t>(launch.block.x * launch.block.y * launch.block.z);
  all.alive = all.threads;
  all.at_barrier = 0;
  for (int32_t i = 0; i < all.threads; ++i) {
    Lane& lane = all.lanes[static_cast<size_t>(i)];
    Warp& warp = all.warps[static_cast<size_t>(i / kWarpSize)];
    const auto at = static_cast<unsigned>(i);
    lane.thread = {at % launch.block.x, at / launch.block.x % launch.block.y,
                   at / launch.block.x / launch.block.y};
    lane.lane = i % kWarpSize;
    lane.warp = &warp;
    lane.state = LaneState::kReady;
    lane.copies.clear();
    lane.copy_group = 0;
    lane.fiber.start(run_thread);
    if (lane.lane == 0) {
      warp.first_thread = i;
      warp.lanes = 0;
      warp.arrived = 0;
    }
    warp.lanes |= 1U << lane.lane;
  }
}

void report_standstill() {
  const Block& all = block();
  running.lane = nullptr;
  for (int32_t i = 0; i < all.threads; ++i) {
    const Lane& lane = all.lanes[static_cast<size_t>(i)];
    if (lane.state != LaneState::kAtWarp) continue;
    fault(std::string("thread ") + std::to_string(i) + " waits in " + lane.warp->operation +
          " for lanes of its warp that ended or wait elsewhere");
  }
  fault(std::to_string(all.at_barrier) + " of " + std::to_string(all.threads) +
        " threads wait at a barrier, " + std::to_string(all.threads - all.alive) + " have ended");
}

// Lets each lane of a warp run as far as it comes, until none can.
bool run_warp(int32_t first, int32_t count, bool backwards) {
  bool any = false;
  for (bool again = true; again;) {
    again = false;
    for (int32_t i = 0; i < count; ++i) {
      Lane& lane = block().lanes[static_cast<size_t>(first + (backwards ? count - 1 - i : i))];
      if (lane.state != LaneState::kReady) continue;
      running.lane = &lane;
      threadIdx = lane.thread;
      lane.fiber.enter();
      again = true;
    }
    any = any || again;
  }
  return any;
}

void run_block(const Launch& launch, bool backwards) {
  Block& all = block();
  running.shared = all.shared.poisoned(launch.shared_bytes);
  running.waited_for_inputs = false;
  prepare(launch);
  const int32_t warps = (all.threads + kWarpSize - 1) / kWarpSize;
  while (all.alive > 0) {
    bool any = false;
    for (int32_t i = 0; i < warps; ++i) {
      const int32_t first = (backwards ? warps - 1 - i : i) * kWarpSize;
      any |= run_warp(first, std::min(kWarpSize, all.threads - first), backwards);
    }
    if (!any) report_standstill();
  }
  running.lane = nullptr;
  if (launch.early && !running.waited_for_inputs) {
    fault("a kernel that may start early never waited for the one ahead of it");
  }
}

}  // namespace

void run_blocks(const Launch& launch) {
  running.launch = &launch;
  gridDim = launch.grid;
  blockDim = launch.block;
  const unsigned blocks = launch.grid.x * launch.grid.y * launch.grid.z;
  for (unsigned i = 0; i < blocks; ++i) {
    blockIdx = {i % launch.grid.x, i / launch.grid.x % launch.grid.y,
                i / launch.grid.x / launch.grid.y};
    run_block(launch, i % 2 == 1);
  }
  running = Running();
}

void block_barrier() {
  Block& all = block();
  if (++all.at_barrier < all.threads) return pause(LaneState::kAtBarrier);
  all.at_barrier = 0;
  for (int32_t i = 0; i < all.threads; ++i) {
    all.lanes[static_cast<size_t>(i)].state = LaneState::kReady;
  }
}

void arrive_at(const char* operation, uint32_t mask) {
  const Lane& lane = *running.lane;
  Warp& warp = *lane.warp;
  const uint32_t own = 1U << lane.lane;
  if ((mask & own) == 0) fault(std::string(operation) + ": a lane that its own mask leaves out");
  if ((mask & ~warp.lanes) != 0) fault(std::string(operation) + ": the mask names absent lanes");
  if (warp.arrived == 0) {
    warp.mask = mask;
    warp.operation = operation;
  } else if (warp.mask != mask || std::strcmp(warp.operation, operation) != 0) {
    fault(std::string("lanes of a warp meet in ") + warp.operation + " and in " + operation +
          ", or with different masks");
  }
  warp.arrived |= own;
}

void wait_for_warp() { pause(LaneState::kAtWarp); }

void release_warp(Warp& warp) {
  for (int32_t i = 0; i < kWarpSize; ++i) {
    if ((warp.arrived >> i & 1U) == 0) continue;
    block().lanes[static_cast<size_t>(warp.first_thread + i)].state = LaneState::kReady;
  }
  warp.arrived = 0;
}

}  // namespace forerun::emulated
