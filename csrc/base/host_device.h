#pragma once

// Functions that a GPU's kernel and the host both call.
#ifdef __CUDACC__
#define FORERUN_HD __host__ __device__ __forceinline__
#else
#define FORERUN_HD inline
#endif
