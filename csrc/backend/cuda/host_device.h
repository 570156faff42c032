#pragma once

// Functions that a kernel and a CPU test both call.
#ifdef __CUDACC__
#define FORERUN_HD __host__ __device__ __forceinline__
#else
#define FORERUN_HD inline
#endif
