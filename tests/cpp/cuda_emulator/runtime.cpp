// The CUDA runtime API over the emulated GPU.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "cuda_emulator/memory.h"
#include "cuda_emulator/stream.h"

using forerun::emulated::DeviceLock;
using forerun::emulated::Launch;
using forerun::emulated::Stream;

namespace forerun::emulated {
namespace {

constexpr int kProcessors = 2;  // so few that small products fill them
constexpr size_t kPlainShared = 48 * 1024;
thread_local cudaError_t last_error = cudaSuccess;
int64_t graph_launches = 0;

cudaError_t answer(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

// FORERUN_EMULATED_GPU: the compute capability, such as "7.5".
struct Capability {
  int major = 9, minor = 0;
};
Capability capability() {
  Capability found;
  const char* wanted = std::getenv("FORERUN_EMULATED_GPU");
  if (wanted != nullptr) std::sscanf(wanted, "%d.%d", &found.major, &found.minor);
  return found;
}

// CUDA C++ Programming Guide, technical specifications per compute capability.
int most_shared() {
  const Capability now = capability();
  const int kib = now.major >= 9 ? 227 : now.major == 7 ? 64 : now.minor == 0 ? 163 : 99;
  return kib * 1024;
}

std::map<const void*, int>& shared_limits() {
  static auto* limits = new std::map<const void*, int>;
  return *limits;
}

Stream& of(cudaStream_t stream) {
  return stream == cudaStreamLegacy || stream == nullptr ? legacy_stream() : *stream;
}

// What a graph cannot hold: the capture of a stream is lost.
bool spoils_capture(Stream& stream) {
  if (stream.capture == nullptr) return false;
  stream.broken_capture = true;
  return true;
}

bool launch_fails() {  // from the launch of this number on; a graph is one launch
  static const char* wanted = std::getenv("FORERUN_EMULATED_GPU_FAILS_AT");
  static int64_t launches = 0;
  return wanted != nullptr && launches++ >= std::atoll(wanted);
}

}  // namespace

cudaError_t submit(const cudaLaunchConfig_t& config, const void* kernel, const char* signature,
                   std::function<void()> body) {
  const DeviceLock lock;
  const dim3 grid = config.gridDim, block = config.blockDim;
  const auto limit = shared_limits().find(kernel);
  const size_t shared =
      limit == shared_limits().end() ? kPlainShared : static_cast<size_t>(limit->second);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535 ||
      block.x * block.y * block.z == 0 || block.x * block.y * block.z > 1024 ||
      config.dynamicSmemBytes > shared) {
    return answer(cudaErrorInvalidConfiguration);
  }
  if (launch_fails()) return answer(cudaErrorLaunchFailure);
  Launch launch;
  launch.grid = {grid.x, grid.y, grid.z};
  launch.block = {block.x, block.y, block.z};
  launch.shared_bytes = config.dynamicSmemBytes;
  launch.early = config.numAttrs > 0;
  const char* with = std::strstr(signature, "[with ");
  launch.kernel = with != nullptr ? with : signature;
  launch.body = std::move(body);
  put(of(config.stream), [launch = std::move(launch)] { run_blocks(launch); });
  return cudaSuccess;
}

cudaError_t set_shared_limit(const void* kernel, int bytes) {
  const DeviceLock lock;
  if (bytes > most_shared()) return answer(cudaErrorInvalidValue);
  shared_limits()[kernel] = bytes;
  return cudaSuccess;
}

}  // namespace forerun::emulated

using namespace forerun::emulated;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
  }
  return "unknown";
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error) + 4; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : answer(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = cudaDeviceProp{};
  std::snprintf(properties->name, sizeof(properties->name), "emulated GPU");
  properties->totalGlobalMem = static_cast<size_t>(device_bytes_total());
  properties->major = capability().major;
  properties->minor = capability().minor;
  properties->multiProcessorCount = kProcessors;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = kProcessors;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = capability().major;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = most_shared();
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = capability().major >= 8 ? 1 : 0;
      break;
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  *pool = reinterpret_cast<cudaMemPool_t>(1);
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }

cudaError_t cudaMalloc(void** data, size_t bytes) {
  const DeviceLock lock;
  if (any_capture()) return answer(cudaErrorStreamCaptureUnsupported);
  *data = allocate_device(static_cast<int64_t>(bytes));
  return *data != nullptr ? cudaSuccess : answer(cudaErrorMemoryAllocation);
}
cudaError_t cudaMallocAsync(void** data, size_t bytes, cudaStream_t stream) {
  const DeviceLock lock;
  if (spoils_capture(of(stream))) return answer(cudaErrorStreamCaptureUnsupported);
  return cudaMalloc(data, bytes);
}
cudaError_t cudaMallocHost(void** data, size_t bytes) {
  const DeviceLock lock;
  *data = allocate_pinned(static_cast<int64_t>(bytes));
  return *data != nullptr ? cudaSuccess : answer(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* data) {
  const DeviceLock lock;
  if (data == nullptr) return cudaSuccess;
  if (any_capture()) return answer(cudaErrorStreamCaptureUnsupported);
  finish_all();
  return free_device(data) ? cudaSuccess : answer(cudaErrorInvalidValue);
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  const DeviceLock lock;
  if (spoils_capture(of(stream))) return answer(cudaErrorStreamCaptureUnsupported);
  if (!is_device(data, 1)) return answer(cudaErrorInvalidValue);
  put(of(stream), [data] { free_device(data); });
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* data) {
  const DeviceLock lock;
  if (data == nullptr) return cudaSuccess;
  finish_all();
  return free_pinned(data) ? cudaSuccess : answer(cudaErrorInvalidValue);
}
cudaError_t cudaMemGetInfo(size_t* left, size_t* total) {
  const DeviceLock lock;
  *left = static_cast<size_t>(device_bytes_left());
  *total = static_cast<size_t>(device_bytes_total());
  return cudaSuccess;
}

cudaError_t cudaMemset(void* data, int value, size_t bytes) {
  return cudaMemsetAsync(data, value, bytes, cudaStreamLegacy);
}
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  const DeviceLock lock;
  if (!is_device(data, static_cast<int64_t>(bytes))) return answer(cudaErrorInvalidValue);
  put(of(stream), [=] {
    if (value == 0) return clear_device(data, static_cast<int64_t>(bytes));
    std::memset(data, value, bytes);
  });
  return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_stride, const void* from, size_t from_stride,
                              size_t width, size_t rows, cudaMemcpyKind kind, cudaStream_t stream) {
  const DeviceLock lock;
  if (width == 0 || rows == 0) return cudaSuccess;
  const auto span = [&](size_t stride) {
    return static_cast<int64_t>(stride * (rows - 1) + width);
  };
  const bool from_device = kind != cudaMemcpyHostToDevice,
             to_device = kind != cudaMemcpyDeviceToHost;
  if (is_device(from, from_device ? span(from_stride) : 1) != from_device ||
      is_device(to, to_device ? span(to_stride) : 1) != to_device) {
    return answer(cudaErrorInvalidValue);
  }
  // Pageable memory of the host is read before the call returns, and filled before it returns.
  const void* host = from_device ? to : from;
  const bool pageable =
      !(from_device && to_device) && !is_pinned(host, span(from_device ? to_stride : from_stride));
  if (pageable && spoils_capture(of(stream))) return answer(cudaErrorStreamCaptureUnsupported);
  std::vector<std::byte> taken;
  if (pageable && !from_device) {
    const auto* begin = static_cast<const std::byte*>(from);
    taken.assign(begin, begin + span(from_stride));
  }
  put(of(stream), [=, taken = std::move(taken)] {
    const auto* source = taken.empty() ? static_cast<const std::byte*>(from) : taken.data();
    for (size_t row = 0; row < rows; ++row) {
      std::memmove(static_cast<std::byte*>(to) + row * to_stride, source + row * from_stride,
                   width);
    }
  });
  if (pageable && from_device) finish(of(stream));
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const DeviceLock lock;
  *stream = make_stream();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const DeviceLock lock;
  destroy_stream(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const DeviceLock lock;
  if (spoils_capture(of(stream))) return answer(cudaErrorStreamCaptureUnsupported);
  finish(of(stream));
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const DeviceLock lock;
  if (spoils_capture(of(stream))) return answer(cudaErrorStreamCaptureUnsupported);
  wait_for(of(stream), *event);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new Event;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const DeviceLock lock;
  finish(*event);
  delete event;
  return cudaSuccess;
}
// An event recorded into a graph could not be waited for by the host.
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const DeviceLock lock;
  if (spoils_capture(of(stream))) return answer(cudaErrorStreamCaptureUnsupported);
  record(*event, of(stream));
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const DeviceLock lock;
  finish(*event);
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = static_cast<float>(end->milliseconds - begin->milliseconds);
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const DeviceLock lock;
  if (stream == cudaStreamLegacy || of(stream).capture != nullptr) {
    return answer(cudaErrorStreamCaptureUnsupported);
  }
  of(stream).capture = std::make_shared<Graph>();
  of(stream).broken_capture = false;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const DeviceLock lock;
  const auto captured = std::exchange(of(stream).capture, nullptr);
  *graph = nullptr;
  if (captured == nullptr) return answer(cudaErrorInvalidValue);
  if (of(stream).broken_capture) return answer(cudaErrorStreamCaptureInvalidated);
  *graph = new Graph(*captured);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = new Graph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const DeviceLock lock;
  if (launch_fails()) return answer(cudaErrorLaunchFailure);
  ++graph_launches;
  for (const Work& node : executable->nodes) put(of(stream), node);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

// For tests, which find it by its name where the library of the back end is an emulated one.
extern "C" __attribute__((visibility("default"))) int64_t forerun_emulated_graph_launches() {
  const DeviceLock lock;
  return graph_launches;
}
