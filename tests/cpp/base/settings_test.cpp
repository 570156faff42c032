#include "base/settings.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace forerun {
namespace {

const MethodOptions kOptions = {{"suffix.depth", "32"},  {"suffix.share", "0.25"},
                                {"suffix.memory", "3M"}, {"suffix.file", "a b.bin"},
                                {"suffixes.depth", "7"}, {"ngram.depth", "9"}};

std::string refusal(const auto& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadArgument);
    return error.what();
  }
  return "";
}

TEST(Settings, ReadsTheOptionsOfItsMethodOnly) {
  Settings settings("suffix", kOptions);
  EXPECT_EQ(settings.integer("depth", 1, 0, 100), 32);
  EXPECT_EQ(settings.integer("width", 5, 0, 100), 5);
  EXPECT_EQ(settings.real("share", 0.0, 0.0, 1.0), 0.25);
  EXPECT_EQ(settings.bytes("memory", 0), 3 << 20);
  EXPECT_EQ(settings.text("file", ""), "a b.bin");
  EXPECT_NO_THROW(settings.done());
}

TEST(Settings, RefusesWhatIsOutOfRangeMalformedOrUnknownNamingIt) {
  const auto with = [](const char* value) { return Settings("suffix", {{"suffix.depth", value}}); };
  for (const char* bad : {"", "x", "1x", " 1", "101", "-1", "1.5", "99999999999999999999"}) {
    Settings settings = with(bad);
    const std::string why = refusal([&] { settings.integer("depth", 1, 0, 100); });
    EXPECT_NE(why.find("suffix.depth is '" + std::string(bad) + "'"), std::string::npos) << why;
  }
  for (const char* bad : {"nan", "inf", "1.1", "-0.1", ""}) {
    Settings settings = with(bad);
    const std::string why = refusal([&] { settings.real("depth", 1, 0.001, 0.999); });
    EXPECT_NE(why.find("expected a number from 0.001 to 0.999"), std::string::npos) << why;
  }
  for (const char* bad : {"", "M", "-1", "1T", "1.5G", "9999999999G"}) {
    Settings settings = with(bad);
    EXPECT_NE(refusal([&] { settings.bytes("depth", 1); }), "") << bad;
  }
  Settings unread("suffix", kOptions);
  unread.integer("depth", 1, 0, 100);
  const std::string why = refusal([&] { unread.done(); });
  EXPECT_NE(why.find("suffix has depth"), std::string::npos) << why;
}

}  // namespace
}  // namespace forerun
