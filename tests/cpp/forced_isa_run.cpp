// A run with FORERUN_ISA set to what this machine lacks is skipped, not failed.
#include <gtest/gtest.h>

#include "base/cpu_features.h"
#include "base/error.h"

namespace forerun {
namespace {

class ForcedIsaRun : public testing::Environment {
 public:
  void SetUp() override {
    try {
      selected_isa();
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }
};

const testing::Environment* const kForcedIsaRun =
    testing::AddGlobalTestEnvironment(new ForcedIsaRun);

}  // namespace
}  // namespace forerun
