#include "base/cpu_features.h"

#include <sched.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "base/error.h"

namespace forerun {
namespace {

#if defined(__x86_64__)
uint64_t saved_registers() {
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

// Linux gives the tile registers (8 KiB of state) only to a process that asks, once and for all its
// threads: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA).
bool tiles_granted() {
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

void detect_instructions(CpuFeatures& features) {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  const auto bit = [](uint32_t word, int index) { return ((word >> index) & 1) != 0; };
  char brand[49] = {};
  for (uint32_t part = 0; part < 3; ++part) {
    if (__get_cpuid(0x80000002 + part, &eax, &ebx, &ecx, &edx) == 0) break;
    const uint32_t words[4] = {eax, ebx, ecx, edx};
    std::memcpy(brand + 16 * part, words, sizeof(words));
  }
  features.model = brand;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || !bit(ecx, 27)) return;  // 27: xgetbv is there
  const uint64_t saved = saved_registers();
  const bool ymm = (saved & 0x6) == 0x6;
  const bool zmm = (saved & 0xE6) == 0xE6;
  const bool saves_tiles = (saved & 0x60000) == 0x60000;
  features.fma = ymm && bit(ecx, 12);
  features.f16c = ymm && bit(ecx, 29);
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return;
  const uint32_t leaves = eax;
  features.avx2 = ymm && bit(ebx, 5);
  features.avx512 = zmm && bit(ebx, 16) && bit(ebx, 17) && bit(ebx, 30) && bit(ebx, 31);
  features.avx512_vnni = features.avx512 && bit(ecx, 11);
  const bool tiles = saves_tiles && bit(edx, 24) && tiles_granted();
  features.amx_bf16 = tiles && bit(edx, 22);
  features.amx_int8 = tiles && bit(edx, 25);
  if (leaves < 1 || __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) == 0) return;
  features.avx_vnni = ymm && bit(eax, 4);
  features.avx512_bf16 = features.avx512 && bit(eax, 5);
}
#else
void detect_instructions(CpuFeatures&) {}
#endif

// cpu.max holds "quota period" or "max period"; the tightest of the process's cgroup and its
// parents counts.
int cgroup_cores() {
  std::ifstream self("/proc/self/cgroup");
  std::string line;
  std::string path;
  while (std::getline(self, line)) {
    if (line.rfind("0::", 0) == 0) path = line.substr(3);
  }
  int cores = 0;
  while (true) {
    std::ifstream file("/sys/fs/cgroup" + path + "/cpu.max");
    int64_t quota = 0;
    int64_t period = 0;
    if (file >> quota >> period && quota > 0 && period > 0) {
      const auto whole = static_cast<int>((quota + period - 1) / period);
      if (cores == 0 || whole < cores) cores = whole;
    }
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return cores;
    path.resize(slash);
  }
}

int usable_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  int cores = 1;
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0 && CPU_COUNT(&mask) > 0)
    cores = CPU_COUNT(&mask);
  const int quota = cgroup_cores();
  return quota > 0 && quota < cores ? quota : cores;
}

CpuFeatures detect() {
  CpuFeatures features;
  detect_instructions(features);
  while (!features.model.empty() && features.model.back() == ' ') features.model.pop_back();
  while (!features.model.empty() && features.model.front() == ' ') features.model.erase(0, 1);
  features.cores = usable_cores();
  return features;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

bool isa_available(Isa isa) {
  const CpuFeatures& cpu = cpu_features();
  const bool avx2 = cpu.avx2 && cpu.fma && cpu.f16c;
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return avx2;
    case Isa::kAvxVnni:
      return avx2 && cpu.avx_vnni;
    case Isa::kAvx512Vnni:
      return avx2 && cpu.avx512_vnni;
    case Isa::kAmx:
      return avx2 && cpu.avx512_vnni && cpu.amx_int8;
  }
  return false;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvxVnni:
      return "avxvnni";
    case Isa::kAvx512Vnni:
      return "avx512";
    case Isa::kAmx:
      return "amx";
  }
  return "unknown";
}

Isa selected_isa() {
  const char* forced = std::getenv("FORERUN_ISA");
  if (forced == nullptr || *forced == '\0') {
    for (size_t i = std::size(kIsas); i-- > 0;) {
      if (isa_available(kIsas[i])) return kIsas[i];
    }
  }
  for (Isa isa : kIsas) {
    if (std::string(isa_name(isa)) != forced) continue;
    if (isa_available(isa)) return isa;
    throw Error(ErrorKind::kUnsupported, "FORERUN_ISA=" + std::string(forced) +
                                             ": this machine or this build does not have it (" +
                                             cpu_features().model + ")");
  }
  throw Error(ErrorKind::kUnsupported,
              "FORERUN_ISA: expected scalar, avx2, avxvnni, avx512 or amx, found '" +
                  std::string(forced) + "'");
}

}  // namespace forerun
