#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"

namespace forerun::test {

// `action` must throw Error of this kind, and the text must hold every one of the fragments.
inline void expect_error(const std::function<void()>& action, ErrorKind kind,
                         const std::vector<std::string>& fragments) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << error.what();
    for (const std::string& fragment : fragments) {
      EXPECT_NE(std::string(error.what()).find(fragment), std::string::npos)
          << "'" << fragment << "' is not in: " << error.what();
    }
    return;
  }
  ADD_FAILURE() << "no Error; expected one with '" << (fragments.empty() ? "" : fragments[0])
                << "'";
}

}  // namespace forerun::test
