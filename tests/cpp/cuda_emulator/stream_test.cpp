// Streams of the emulated GPU are as late as a real one may be, graphs replay what was captured.
#include "cuda_emulator/emulator_test.h"

namespace forerun::emulated_test {
namespace {

__global__ void add_kernel(int* data, int value) {
  cuda::begin_kernel();
  data[threadIdx.x] += value;
}

TEST(EmulatedStream, ReadsPinnedMemoryLateAndPageableMemoryAtOnce) {
  const OnDevice<int> to(std::vector<int>(4, 0));
  std::vector<int> pageable(4, 1);
  cuda::PinnedMemory pinned(16);
  auto* in_pinned = reinterpret_cast<int*>(pinned.data());
  const auto upload = [&](const void* from) {
    cuda::check(cudaMemcpyAsync(to.data(), from, 16, cudaMemcpyHostToDevice, stream().get()), "");
  };
  upload(pageable.data());
  pageable.assign(4, 9);
  EXPECT_EQ(to.values(), std::vector<int>(4, 1));
  std::fill(in_pinned, in_pinned + 4, 2);
  upload(in_pinned);
  std::fill(in_pinned, in_pinned + 4, 7);  // too early
  EXPECT_EQ(to.values(), std::vector<int>(4, 7));
}

TEST(EmulatedStream, FillsPinnedMemoryOnlyWhenSomebodyWaits) {
  const OnDevice<int> from(std::vector<int>(4, 5));
  cuda::PinnedMemory pinned(16);
  const auto* in_pinned = reinterpret_cast<const int*>(pinned.data());
  cuda::check(
      cudaMemcpyAsync(pinned.data(), from.data(), 16, cudaMemcpyDeviceToHost, stream().get()), "");
  EXPECT_NE(in_pinned[0], 5);
  const cuda::Event event;
  event.record(stream().get());
  EXPECT_NE(in_pinned[0], 5);
  event.wait();
  EXPECT_EQ(in_pinned[0], 5);
}

TEST(EmulatedStream, ReplaysAGraphWithTheBuffersOfItsCapture) {
  const OnDevice<int> data(std::vector<int>(4, 0));
  finish();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cuda::check(cudaStreamBeginCapture(stream().get(), cudaStreamCaptureModeThreadLocal), "");
  run(add_kernel, dim3(1), dim3(4), 0, data.data(), 3);
  run(add_kernel, dim3(1), dim3(4), 0, data.data(), 4);
  cuda::check(cudaStreamEndCapture(stream().get(), &graph), "");
  cuda::check(cudaGraphInstantiate(&executable, graph, 0), "");
  cudaGraphDestroy(graph);
  EXPECT_EQ(data.values(), std::vector<int>(4, 0));
  for (int i = 0; i < 3; ++i) cuda::check(cudaGraphLaunch(executable, stream().get()), "");
  EXPECT_EQ(data.values(), std::vector<int>(4, 21));
  cudaGraphExecDestroy(executable);
}

TEST(EmulatedStream, LosesACaptureToWhatAGraphCannotHold) {
  const cuda::Stream captured;
  cudaGraph_t graph = nullptr;
  cuda::check(cudaStreamBeginCapture(captured.get(), cudaStreamCaptureModeThreadLocal), "");
  EXPECT_THROW(captured.wait(), Error);
  void* data = nullptr;
  EXPECT_EQ(cudaMalloc(&data, 64), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(captured.get(), &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(graph, nullptr);
}

TEST(EmulatedStream, RefusesCopiesBeyondABuffer) {
  const OnDevice<int> data(std::vector<int>(4, 0));
  std::vector<int> host(8);
  EXPECT_EQ(cudaMemcpyAsync(data.data(), host.data(), 20, cudaMemcpyHostToDevice, stream().get()),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(host.data(), host.data(), 4, cudaMemcpyDeviceToHost, stream().get()),
            cudaErrorInvalidValue);
}

}  // namespace
}  // namespace forerun::emulated_test
