#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "backend/cuda/device.cuh"
#include "backend/cuda/launch_log.h"
#include "backend/cuda/runtime.h"

namespace forerun::cuda {

// Programmatic dependent launch (compute capability 9.0): a kernel may start while the one before
// it still runs, and waits for its results in wait_for_inputs. Every kernel of a step calls
// begin_kernel, or let_next_start and later wait_for_inputs before it touches anything that another
// kernel writes or reads; each block does so, so that a kernel is complete only when all before it
// are.
__device__ __forceinline__ void let_next_start() {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}
__device__ __forceinline__ void wait_for_inputs() {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}
__device__ __forceinline__ void begin_kernel() {
  let_next_start();
  wait_for_inputs();
}

// Done, or noted where the thread has a launch_log().
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared,
            cudaStream_t stream, Arguments&&... arguments) {
  if (LaunchLog* log = launch_log()) {
    log->add(reinterpret_cast<const void*>(kernel));
    log->add(grid);
    log->add(block);
    log->add(shared);
    (log->add<Parameters>(arguments), ...);
    return;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &early;
  config.numAttrs = early_launch() ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), name);
}

}  // namespace forerun::cuda
