#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda_emulator/fiber.h"

// Runs the blocks of a launch, one after the other, each thread as a fiber. A thread runs until it
// meets a barrier or an operation of its warp, or ends; so what it reads before another has written
// it is the poison with which shared memory begins. Blocks, warps and lanes take turns from the
// first to the last in every other block and the other way round in the rest.
namespace forerun::emulated {

struct Index3 {
  unsigned x = 0, y = 0, z = 0;
};

constexpr int kWarpSize = 32;
constexpr size_t kWarpBytes = 64;  // the most that a lane brings to an operation of its warp
constexpr uint8_t kPoison = 0xFF;  // as half, float or double a NaN

enum class LaneState : uint8_t { kReady, kAtWarp, kAtBarrier, kDone };

struct PendingCopy {  // cp.async
  void* to = nullptr;
  const void* from = nullptr;  // 16 bytes
  int32_t group = 0;
};

struct Warp {
  int32_t first_thread = 0;
  uint32_t lanes = 0;    // that exist
  uint32_t arrived = 0;  // at `operation`, of those in `mask`
  uint32_t mask = 0;
  const char* operation = nullptr;
  alignas(16) std::byte in[kWarpSize][kWarpBytes];
  alignas(16) std::byte out[kWarpSize][kWarpBytes];
};

struct Lane {
  Fiber fiber;
  Index3 thread;
  Warp* warp = nullptr;
  int32_t lane = 0;
  LaneState state = LaneState::kDone;
  std::vector<PendingCopy> copies;
  int32_t copy_group = 0;
};

struct Launch {
  Index3 grid, block;
  size_t shared_bytes = 0;
  bool early = false;          // may start before the kernel ahead ends
  std::string kernel;          // for reports
  std::function<void()> body;  // one thread
};

struct Running {
  Lane* lane = nullptr;
  const Launch* launch = nullptr;
  std::byte* shared = nullptr;
  bool waited_for_inputs = false;
};
extern Running running;

void run_blocks(const Launch& launch);

// Called by threads.
void block_barrier();
void arrive_at(const char* operation, uint32_t mask);  // checks that the lanes belong together
void wait_for_warp();
void release_warp(Warp& warp);

// All lanes of `mask` bring `in`; compute(in of all lanes, out of all lanes) runs once.
template <typename Out, typename In, typename Compute>
Out warp_operation(const char* operation, uint32_t mask, const In& in, const Compute& compute) {
  static_assert(sizeof(In) <= kWarpBytes && sizeof(Out) <= kWarpBytes);
  Lane& lane = *running.lane;
  Warp& warp = *lane.warp;
  arrive_at(operation, mask);
  std::memcpy(warp.in[lane.lane], &in, sizeof(In));
  if (warp.arrived == mask) {
    In all[kWarpSize];
    Out results[kWarpSize];
    for (int i = 0; i < kWarpSize; ++i) std::memcpy(&all[i], warp.in[i], sizeof(In));
    compute(all, results);
    for (int i = 0; i < kWarpSize; ++i) {
      if ((mask >> i & 1U) != 0) std::memcpy(warp.out[i], &results[i], sizeof(Out));
    }
    release_warp(warp);
  } else {
    wait_for_warp();
  }
  Out out;
  std::memcpy(&out, warp.out[lane.lane], sizeof(Out));
  return out;
}

}  // namespace forerun::emulated

// Of the thread that runs, by the names that kernels know.
extern forerun::emulated::Index3 threadIdx, blockIdx, blockDim, gridDim;
