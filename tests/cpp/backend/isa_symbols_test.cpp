#include <gtest/gtest.h>

#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

namespace forerun {
namespace {

// Global and weak definitions of an object file, and whether it has static initialisers, by `nm`.
std::vector<std::string> exported(const std::string& object) {
  std::vector<std::string> names;
  FILE* pipe = popen(("nm -C --defined-only '" + object + "' 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return names;
  char line[4096];
  while (std::fgets(line, sizeof(line), pipe) != nullptr) {
    std::istringstream words(line);
    std::string address, type, name;
    words >> address >> type;
    std::getline(words >> std::ws, name);
    const bool local = type == "t" || type == "r" || type == "d" || type == "b" || type == "n";
    if (!local || name.rfind("_GLOBAL__sub_I", 0) == 0) names.push_back(name);
  }
  pclose(pipe);
  return names;
}

// The linker keeps one copy of a function that two files share: were it the AVX-512 one, every
// machine would run it.
TEST(IsaFiles, ExportTheirTableAndNothingElse) {
  const std::vector<std::pair<std::string, std::string>> files = {{"scalar", "kKernelsScalar"},
                                                                  {"avx2", "kKernelsAvx2"},
                                                                  {"avxvnni", "kKernelsAvxVnni"},
                                                                  {"avx512", "kKernelsAvx512"},
                                                                  {"amx", "kMatmulAmx"}};
  for (const auto& [file, table] : files) {
    const std::string object = std::string(FORERUN_ISA_OBJECTS) + "/isa_" + file + ".cpp.o";
    const std::vector<std::string> names = exported(object);
    if (names.empty()) GTEST_SKIP() << "needs nm (binutils) and " << object;
    ASSERT_EQ(names.size(), 1U) << file << " exports " << names[0] << " and " << names.back();
    EXPECT_EQ(names[0], "forerun::" + table);
  }
}

}  // namespace
}  // namespace forerun
