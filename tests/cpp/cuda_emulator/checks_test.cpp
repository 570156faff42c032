// What a real GPU would punish ends the program with a reason. Kernels here are wrong on purpose.
#include <cmath>

#include "cuda_emulator/emulator_test.h"

namespace forerun::emulated_test {
namespace {

using cuda::begin_kernel;
using cuda::shared_memory;

__global__ void sum_kernel(const int* in, int* out, int count) {
  begin_kernel();
  auto* partial = shared_memory<int>();
  int sum = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum += in[i];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0U, sum, step);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (unsigned i = 1; i < blockDim.x / 32; ++i) sum += partial[i];
  atomicAdd(out, sum);
}

TEST(EmulatedGpu, RunsThreadsThatMeetAtShufflesAndBarriers) {
  std::vector<int> in;
  for (int i = 0; i < 1000; ++i) in.push_back(i);
  const OnDevice<int> on_device(in), out(std::vector<int>(1, 0));
  run(sum_kernel, dim3(3), dim3(128), 16, on_device.data(), out.data(), 1000);
  EXPECT_EQ(out.values()[0], 3 * 999 * 500);
}

__global__ void index_kernel(int* out) {
  begin_kernel();
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] =
      static_cast<int>(block * 1000 + thread);
}

TEST(EmulatedGpu, NumbersBlocksAndThreadsInThreeDimensions) {
  const OnDevice<int> out(std::vector<int>(24 * 30, -1));
  run(index_kernel, dim3(2, 3, 4), dim3(5, 2, 3), 0, out.data());
  const std::vector<int> values = out.values();
  for (int i = 0; i < 24 * 30; ++i)
    ASSERT_EQ(values[static_cast<size_t>(i)], i / 30 * 1000 + i % 30);
}

__global__ void ballot_kernel(uint32_t* out) {
  begin_kernel();
  const uint32_t odd = __ballot_sync(~0U, threadIdx.x % 2);
  const auto next = __shfl_down_sync(~0U, threadIdx.x, 1);
  const auto third = __shfl_sync(~0U, threadIdx.x, 3);
  out[threadIdx.x] = odd + next + third;
}

TEST(EmulatedGpu, ShufflesAndBallotsBringWhatTheirLanesGave) {
  const OnDevice<uint32_t> out(std::vector<uint32_t>(32));
  run(ballot_kernel, dim3(1), dim3(32), 0, out.data());
  const auto values = out.values();
  for (uint32_t lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(values[lane], 0xAAAAAAAAU + (lane < 31 ? lane + 1 : 31) + 3);
  }
}

__global__ void some_threads_kernel(int mode) {
  begin_kernel();
  if (mode == 0 && threadIdx.x < 40) __syncthreads();
  if (mode == 1 && threadIdx.x % 32 != 7) __syncwarp();
  if (mode == 2) __shfl_xor_sync(threadIdx.x % 32 == 5 ? 0xFFFFU : ~0U, 1, 1);
  if (mode == 3) __shfl_sync(1U << threadIdx.x % 32, 1, 3);
  if (mode == 4)
    (threadIdx.x % 2 != 0) ? __syncwarp() : static_cast<void>(__shfl_xor_sync(~0U, 1, 1));
  if (mode == 5 && threadIdx.x < 32) __syncwarp(0x80000000U);
}

void misuse(int mode) {
  run(some_threads_kernel, dim3(1), dim3(64), 0, mode);
  finish();
}

using EmulatedGpuDeathTest = testing::Test;

TEST(EmulatedGpuDeathTest, RefusesBarriersAndShufflesThatNotAllReach) {
  EXPECT_DEATH(misuse(0), "40 of 64 threads wait at a barrier");
  EXPECT_DEATH(misuse(1), "waits in __syncwarp for lanes");
  EXPECT_DEATH(misuse(2), "different masks");
  EXPECT_DEATH(misuse(3), "a shuffle from an absent lane");
  EXPECT_DEATH(misuse(4), "meet in");
  EXPECT_DEATH(misuse(5), "its own mask leaves out");
}

__global__ void touch_kernel(float* data, int at, bool write) {
  begin_kernel();
  if (write) {
    data[at] = 1.0F;
  } else if (data[at] == 3.0F) {
    data[0] = 2.0F;
  }
}

void touch(int at, bool write) {
  const OnDevice<float> data(std::vector<float>(70, 0.0F));
  run(touch_kernel, dim3(1), dim3(1), 0, data.data(), at, write);
  finish();
}

TEST(EmulatedGpuDeathTest, RefusesAccessesOutsideOfABuffer) {
  touch(69, true);
  EXPECT_DEATH(touch(80, false), "after the end of a buffer of 280 bytes");
  EXPECT_DEATH(touch(80, true), "after the end of a buffer of 280 bytes");
  EXPECT_DEATH(touch(72, true), "8 bytes after a buffer of 280 bytes");
  EXPECT_DEATH(touch(-1500, false), "before a buffer of 280 bytes");
}

TEST(EmulatedGpuDeathTest, RefusesTheHostItsMemory) {
  const OnDevice<float> data(std::vector<float>(70, 0.0F));
  finish();
  EXPECT_DEATH(data.data()[3] = 1.0F, "12 bytes into a buffer of 280 bytes, from the host");
}

TEST(EmulatedGpuDeathTest, RefusesFreedMemory) {
  const auto use_after_free = [] {
    void* data = nullptr;
    cuda::check(cudaMallocAsync(&data, 100, stream().get()), "allocate");
    cuda::check(cudaFreeAsync(data, stream().get()), "free");
    run(touch_kernel, dim3(1), dim3(1), 0, static_cast<float*>(data), 3, true);
    finish();
  };
  EXPECT_DEATH(use_after_free(), "an access at");
}

__global__ void vector_kernel(const float* in, float* out) {
  begin_kernel();
  out[0] = reinterpret_cast<const float4*>(in)->x;
}

TEST(EmulatedGpuDeathTest, RefusesMisalignedVectors) {
  const auto load = [](int offset) {
    const OnDevice<float> in(std::vector<float>(16, 5.0F)), out(std::vector<float>(1));
    run(vector_kernel, dim3(1), dim3(1), 0, in.data() + offset, out.data());
    return out.values()[0];
  };
  EXPECT_EQ(load(4), 5.0F);
  EXPECT_DEATH(load(1), "misaligned");
}

__global__ void shared_kernel(float* out, int read, bool write_first) {
  begin_kernel();
  auto* shared = shared_memory<float>();
  if (write_first) shared[threadIdx.x] = 1.0F;
  out[threadIdx.x] = shared[read];
}

TEST(EmulatedGpuDeathTest, PoisonsSharedMemoryAndRefusesMoreOfItThanAsked) {
  const auto read = [](int at, bool write_first) {
    const OnDevice<float> out(std::vector<float>(8, 0.0F));
    run(shared_kernel, dim3(1), dim3(8), 32, out.data(), at, write_first);
    return out.values();
  };
  EXPECT_TRUE(std::isnan(read(3, false)[3]));
  const auto mixed = read(5, true);  // without a barrier: lanes 0 to 4 come too early
  EXPECT_TRUE(std::isnan(mixed[0]));
  EXPECT_EQ(mixed[6], 1.0F);
  EXPECT_DEATH(read(8, false), "an access at");
}

__global__ void late_kernel() {}

TEST(EmulatedGpuDeathTest, WantsAKernelThatStartsEarlyToWait) {
  const auto launch = [] {
    run(late_kernel, dim3(1), dim3(1), 0);
    finish();
  };
  EXPECT_DEATH(launch(), "never waited");
}

TEST(EmulatedGpu, RefusesLaunchesThatAreTooLarge) {
  const auto launch = [](dim3 grid, dim3 block, size_t shared) {
    run(some_threads_kernel, grid, block, shared, 9);
  };
  EXPECT_NO_THROW(launch(dim3(1), dim3(1024), 48 * 1024));
  EXPECT_THROW(launch(dim3(1), dim3(1025), 0), Error);
  EXPECT_THROW(launch(dim3(1, 70000), dim3(1), 0), Error);
  EXPECT_THROW(launch(dim3(0), dim3(1), 0), Error);
  EXPECT_THROW(launch(dim3(1), dim3(1), 49 * 1024), Error);
  finish();
  EXPECT_EQ(
      cudaFuncSetAttribute(late_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10),
      cudaErrorInvalidValue);
}

}  // namespace
}  // namespace forerun::emulated_test
