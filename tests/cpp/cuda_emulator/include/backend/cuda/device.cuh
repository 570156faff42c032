#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda_emulator/mma.h"
#include "cuda_runtime.h"

// The twin of csrc/backend/cuda/device.cuh on the emulated GPU.
namespace forerun::cuda {

template <typename T>
T* shared_memory() {
  if (emulated::running.launch->shared_bytes < sizeof(T)) {
    emulated::fault("shared memory is smaller than what a kernel lays over it");
  }
  return reinterpret_cast<T*>(emulated::running.shared);
}

template <int kRows, int kDepth>
void emulated_mma(const char* name, int32_t* c, const uint32_t* a, const uint32_t* b) {
  emulated::MmaOperands mine{};
  std::memcpy(mine.a, a, sizeof(uint32_t) * kRows / 8 * kDepth / 16);
  std::memcpy(mine.b, b, sizeof(uint32_t) * kDepth / 16);
  std::memcpy(mine.c, c, sizeof(int32_t) * kRows / 4);
  const auto sums = emulated::warp_operation<emulated::MmaSums>(name, ~0U, mine,
                                                                emulated::multiply<kRows, kDepth>);
  std::memcpy(c, sums.c, sizeof(int32_t) * kRows / 4);
}

inline void mma_m8n8k16(int32_t& c0, int32_t& c1, uint32_t a, uint32_t b) {
  int32_t c[2] = {c0, c1};
  emulated_mma<8, 16>("mma.m8n8k16", c, &a, &b);
  c0 = c[0];
  c1 = c[1];
}
inline void mma_m16n8k16(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t b) {
  const uint32_t a[2] = {a0, a1};
  emulated_mma<16, 16>("mma.m16n8k16", c, a, &b);
}
inline void mma_m16n8k32(int32_t (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const uint32_t b[2] = {b0, b1};
  emulated_mma<16, 32>("mma.m16n8k32", c, a, b);
}

inline uint4 load_streaming(const void* at) { return *static_cast<const uint4*>(at); }

// prmt.b32: a nibble of the selector picks one of the eight bytes of (low, high), or with its top
// bit set that byte's sign, eight times.
inline uint32_t permute_bytes(uint32_t low, uint32_t high, uint32_t selector) {
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t pick = selector >> (4 * i) & 0xFU;
    uint32_t byte = ((pick & 4U) != 0 ? high : low) >> (8 * (pick & 3U)) & 0xFFU;
    if ((pick & 8U) != 0) byte = (byte & 0x80U) != 0 ? 0xFFU : 0U;
    out |= byte << (8 * i);
  }
  return out;
}

// Done no sooner than somebody waits; until then there is poison.
inline void copy_async(std::byte* shared, const void* global) {
  emulated::Lane& lane = *emulated::running.lane;
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 ||
      reinterpret_cast<uintptr_t>(global) % 16 != 0)
    emulated::fault("cp.async: a misaligned address");
  std::memset(shared, emulated::kPoison, 16);
  lane.copies.push_back({shared, global, lane.copy_group});
}
inline void commit_copies() { ++emulated::running.lane->copy_group; }
template <int Pending>
void wait_copies() {
  emulated::Lane& lane = *emulated::running.lane;
  size_t done = 0;
  for (; done < lane.copies.size() && lane.copies[done].group < lane.copy_group - Pending; ++done) {
    std::memcpy(lane.copies[done].to, lane.copies[done].from, 16);
  }
  lane.copies.erase(lane.copies.begin(), lane.copies.begin() + static_cast<int64_t>(done));
}

}  // namespace forerun::cuda
