#pragma once

#include <cstddef>
#include <cstdint>

// What kernels use of a GPU that has no name in C++: the shared memory of their block, and single
// instructions of the PTX ISA. Everything else in the kernels is C++ and CUDA's own words, so that
// the tests can run them on a GPU emulated on the CPU, which has a device.cuh of its own.
namespace forerun::cuda {

// The shared memory of the launch, at its first byte.
template <typename T>
__device__ __forceinline__ T* shared_memory() {
  extern __shared__ __align__(16) std::byte forerun_shared[];
  return reinterpret_cast<T*>(forerun_shared);
}

// Integer matrix instructions on signed bytes, C += A * B, of all lanes of a warp; mma.cuh says how
// the operands lie.
__device__ __forceinline__ void mma_m8n8k16(int32_t& c0, int32_t& c1, uint32_t a, uint32_t b) {
  asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};\n"
      : "+r"(c0), "+r"(c1)
      : "r"(a), "r"(b));
}
#if __CUDA_ARCH__ >= 800
__device__ __forceinline__ void mma_m16n8k16(int32_t (&c)[4], uint32_t a0, uint32_t a1,
                                             uint32_t b) {
  asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, "
      "%2, %3};\n"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(b));
}
__device__ __forceinline__ void mma_m16n8k32(int32_t (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
      "%9}, {%0, %1, %2, %3};\n"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// A load that passes by the first-level cache, for weights, which are read once.
__device__ __forceinline__ uint4 load_streaming(const void* at) {
  uint4 v;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "l"(at));
  return v;
}

// Each nibble of the selector picks one of the eight bytes of (low, high), or with its top bit set
// the sign of that byte, eight times.
__device__ __forceinline__ uint32_t permute_bytes(uint32_t low, uint32_t high, uint32_t selector) {
  uint32_t out;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(out) : "r"(low), "r"(high), "r"(selector));
  return out;
}

// Copies of 16 bytes from global to shared memory that go on by themselves: those since the last
// commit_copies() are a group; wait_copies() returns when all groups but the last Pending are done.
// A thread sees its own copies then, others after a barrier.
__device__ __forceinline__ void copy_async(std::byte* shared, const void* global) {
#if __CUDA_ARCH__ >= 800
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(global));
#endif
}
__device__ __forceinline__ void commit_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;");
#endif
}
template <int Pending>
__device__ __forceinline__ void wait_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending));
#endif
}

}  // namespace forerun::cuda
