#pragma once

#include <string>

#include "base/error.h"

namespace forerun {

// Instruction sets that kernels are compiled for, from the plain loop up; the last that a machine
// has is the fastest. Every one needs AVX2's.
enum class Isa { kScalar, kAvx2, kAvxVnni, kAvx512Vnni, kAmx };
inline constexpr Isa kIsas[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvxVnni, Isa::kAvx512Vnni,
                                Isa::kAmx};

struct CpuFeatures {
  std::string model;  // as /proc/cpuinfo names it
  bool avx2 = false, fma = false, f16c = false;
  bool avx_vnni = false;  // dot products of bytes without AVX-512
  bool avx512 = false;    // F, BW, DQ, VL and the operating system saves the registers
  bool avx512_vnni = false, avx512_bf16 = false;
  bool amx_int8 = false, amx_bf16 = false;  // and the operating system lets this process use tiles
  int cores = 1;  // usable by this process (affinity mask and cgroup quota)
};

FORERUN_API const CpuFeatures& cpu_features();  // detected once

// The best instruction set this machine and this build have; FORERUN_ISA=NAME forces one. Throws
// Error(kUnsupported) when the forced one is missing here or the name is unknown.
FORERUN_API Isa selected_isa();
FORERUN_API bool isa_available(Isa isa);    // here, and the operating system lets it be used
FORERUN_API const char* isa_name(Isa isa);  // "scalar", "avx2", "avxvnni", "avx512", "amx"

}  // namespace forerun
