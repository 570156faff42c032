#include "base/cpu_features.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/forced_isa.h"

namespace forerun {
namespace {

Isa with(const char* value) {
  const test::ForcedIsa forced(value);
  return selected_isa();
}

// The kernel's own list is the oracle.
TEST(CpuFeatures, AgreeWithProcCpuinfo) {
  std::ifstream file("/proc/cpuinfo");
  std::string flags;
  std::string model;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("flags", 0) == 0) flags = line.substr(line.find(':') + 1) + " ";
    if (line.rfind("model name", 0) == 0) model = line.substr(line.find(':') + 2);
  }
  if (flags.empty()) GTEST_SKIP() << "needs the flags of /proc/cpuinfo, which only x86 has";
  const auto has = [&](const std::string& name) {
    return flags.find(" " + name + " ") != std::string::npos;
  };
  const CpuFeatures& cpu = cpu_features();
  EXPECT_EQ(cpu.model, model);
  EXPECT_EQ(cpu.avx2, has("avx2"));
  EXPECT_EQ(cpu.fma, has("fma"));
  EXPECT_EQ(cpu.f16c, has("f16c"));
  EXPECT_EQ(cpu.avx512, has("avx512f") && has("avx512bw") && has("avx512dq") && has("avx512vl"));
  EXPECT_EQ(cpu.avx512_vnni, has("avx512_vnni"));
  EXPECT_EQ(cpu.avx512_bf16, has("avx512_bf16"));
  EXPECT_EQ(cpu.amx_int8, has("amx_int8") && has("amx_tile"));
  EXPECT_EQ(cpu.amx_bf16, has("amx_bf16"));
}

TEST(CpuFeatures, CountCoresThatTheProcessMayUse) {
  EXPECT_GE(cpu_features().cores, 1);
  EXPECT_LE(cpu_features().cores, static_cast<int>(std::thread::hardware_concurrency()));
}

TEST(ForcedIsa, ScalarIsAlwaysThere) { EXPECT_EQ(with("scalar"), Isa::kScalar); }

TEST(ForcedIsa, AnEmptyNameChoosesTheBest) {
  const CpuFeatures& cpu = cpu_features();
  const bool avx512 = cpu.avx2 && cpu.fma && cpu.f16c && cpu.avx512_vnni;
  EXPECT_EQ(with("") == Isa::kAmx, avx512 && cpu.amx_int8);
  EXPECT_EQ(with("") >= Isa::kAvx512Vnni, avx512);
}

TEST(ForcedIsa, UnknownAndMissingNamesAreRefused) {
  for (const char* name : {"sse", "AVX2", "amx"}) {
    if (cpu_features().amx_int8 && std::string(name) == "amx") continue;
    try {
      with(name);
      FAIL() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos);
    }
  }
}

TEST(ForcedIsa, NamesAreThoseOfIsaName) {
  for (Isa isa : kIsas) {
    try {
      EXPECT_EQ(with(isa_name(isa)), isa);
    } catch (const Error&) {
      EXPECT_NE(isa, Isa::kScalar);  // this machine lacks it
    }
  }
}

}  // namespace
}  // namespace forerun
