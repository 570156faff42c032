// The tests, or with --folders=A,B,.. those whose source lies in a folder of that name here: so
// that what is run once more with FORERUN_ISA set needs no list of suites. With it set to what this
// machine lacks, or to what it takes by itself, nothing is run.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <set>
#include <sstream>
#include <string>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/forced_isa.h"

namespace forerun {
namespace {

bool lies_in(const testing::TestInfo& test, const std::string& folder) {
  return std::string(test.file()).find("/cpp/" + folder + "/") != std::string::npos;
}

// "Suite.*" of every suite that has a test in one of the folders.
std::set<std::string> suites_of(const std::string& folders) {
  std::set<std::string> suites;
  std::istringstream names(folders);
  for (std::string folder; std::getline(names, folder, ',');) {
    const testing::UnitTest& all = *testing::UnitTest::GetInstance();
    const size_t before = suites.size();
    for (int i = 0; i < all.total_test_suite_count(); ++i) {
      const testing::TestSuite& suite = *all.GetTestSuite(i);
      for (int j = 0; j < suite.total_test_count(); ++j) {
        if (lies_in(*suite.GetTestInfo(j), folder)) suites.insert(std::string(suite.name()) + ".*");
      }
    }
    if (suites.size() == before) std::printf("no test lies in %s\n", folder.c_str()), std::exit(1);
  }
  return suites;
}

// Leaves out what the filter leaves out already ("-A:B").
void keep_folders(const std::string& folders) {
  const std::string before = GTEST_FLAG_GET(filter);
  std::string filter;
  for (const std::string& suite : suites_of(folders)) filter += (filter.empty() ? "" : ":") + suite;
  const size_t left_out = before.find('-');
  if (left_out != std::string::npos) filter += before.substr(left_out);
  GTEST_FLAG_SET(filter, filter);
}

class ForcedIsaRun : public testing::Environment {
 public:
  void SetUp() override {
    Isa own;
    {
      const test::ForcedIsa none(nullptr);
      own = selected_isa();
    }
    try {
      if (std::getenv("FORERUN_ISA") != nullptr && selected_isa() == own) {
        GTEST_SKIP() << "not run: FORERUN_ISA=" << isa_name(own)
                     << " is what this machine takes by itself";
      }
    } catch (const Error& error) {
      GTEST_SKIP() << "not run: " << error.what();
    }
  }
};

}  // namespace
}  // namespace forerun

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--folders=", 0) == 0) forerun::keep_folders(argument.substr(10));
  }
  testing::AddGlobalTestEnvironment(new forerun::ForcedIsaRun);
  return RUN_ALL_TESTS();
}
