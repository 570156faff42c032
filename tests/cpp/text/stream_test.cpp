#include "text/stream.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"

namespace forerun {
namespace {

// An independent validator: decodes by arithmetic and rejects what re-encodes to other bytes.
bool valid(const std::string& s) {
  for (size_t i = 0; i < s.size();) {
    const auto b = static_cast<uint8_t>(s[i]);
    const size_t n = b < 0x80 ? 1 : b >> 5 == 6 ? 2 : b >> 4 == 14 ? 3 : b >> 3 == 30 ? 4 : 0;
    if (n == 0 || i + n > s.size()) return false;
    uint32_t c = n == 1 ? b : b & (0x7F >> n);
    for (size_t k = 1; k < n; ++k) {
      const auto t = static_cast<uint8_t>(s[i + k]);
      if (t >> 6 != 2) return false;
      c = c * 64 + (t & 63);
    }
    const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (c < least[n] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) return false;
    i += n;
  }
  return true;
}

const std::string kBad = "\xEF\xBF\xBD";

TEST(Utf8Stream, ReplacesMaximalPartsAsUnicodeRecommends) {
  // The examples of the Unicode standard, tables 3-8 to 3-11.
  const std::pair<std::string, std::string> cases[] = {
      {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41",
       kBad + kBad + kBad + kBad + kBad + kBad + kBad + kBad + "A"},
      {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41",
       kBad + kBad + kBad + kBad + kBad + kBad + kBad + kBad + "A"},
      {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42",
       kBad + kBad + kBad + kBad + kBad + "A" + kBad + kBad + "B"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", kBad + kBad + kBad + kBad + "A"},
      {"\xF0\x9F\x98", kBad},
      {"a\xE6\x97\xA5\xE6", "a\xE6\x97\xA5" + kBad},
      {"", ""},
  };
  for (const auto& [bytes, text] : cases) {
    Utf8Stream stream;
    std::string out = stream.push(bytes);
    out += stream.finish();
    EXPECT_EQ(out, text);
  }
}

TEST(Utf8Stream, EverySplitGivesTheSameValidText) {
  const std::string texts[] = {"\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7",
                               "a\xF0\x9F\xE2\x82\xACz\xC3", "\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41",
                               "\xED\xA0\x80\xC3\xA9\xF4\x90\x80\x80\xF4\x8F"};
  for (const std::string& bytes : texts) {
    Utf8Stream whole;
    std::string expected = whole.push(bytes);
    expected += whole.finish();
    ASSERT_TRUE(valid(expected));
    for (uint32_t cuts = 0; cuts < 1U << (bytes.size() - 1); ++cuts) {
      Utf8Stream stream;
      std::string out, piece;
      for (size_t i = 0; i < bytes.size(); ++i) {
        piece += bytes[i];
        if (i + 1 < bytes.size() && (cuts >> i & 1) == 0) continue;
        const std::string shown = stream.push(piece);
        ASSERT_TRUE(valid(shown));
        out += shown;
        piece.clear();
      }
      out += stream.finish();
      ASSERT_EQ(out, expected);
    }
  }
}

TEST(Utf8Stream, RandomBytesAlwaysGiveValidText) {
  std::mt19937 random(11);
  const std::string leads = "a\x80\xBF\xC2\xE0\xED\xF0\xF4\xFF\x9F\xA0\x90";
  for (int round = 0; round < 3000; ++round) {
    Utf8Stream stream, whole;
    std::string bytes, out;
    for (int i = 0; i < 30; ++i) {
      const std::string piece(
          1, random() % 3 == 0 ? static_cast<char>(random()) : leads[random() % leads.size()]);
      const std::string shown = stream.push(piece);
      ASSERT_TRUE(valid(shown));
      bytes += piece;
      out += shown;
    }
    out += stream.finish();
    std::string expected = whole.push(bytes);
    expected += whole.finish();
    ASSERT_EQ(out, expected);
    ASSERT_TRUE(stream.finish().empty());
  }
}

struct Stop {
  std::string text, matched;
  bool stopped = false;
};

// The definition on the whole text: the first byte at which some stop string ends, the longest of
// those.
Stop stop_naively(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    Stop best;
    for (const std::string& stop : stops) {
      const bool here =
          stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0;
      if (here && stop.size() > best.matched.size())
        best = {text.substr(0, end - stop.size()), stop, true};
    }
    if (best.stopped) return best;
  }
  return {text, "", false};
}

TEST(StopMatcher, EqualsASearchOfTheWholeTextHoweverItIsCut) {
  std::mt19937 random(13);
  for (int round = 0; round < 20000; ++round) {
    const auto draw = [&](size_t least, size_t most) {
      std::string s;
      for (size_t n = least + random() % (most - least + 1); n > 0; --n) s += "ab\n"[random() % 3];
      return s;
    };
    std::vector<std::string> stops;
    for (size_t n = random() % 4; n > 0; --n) stops.push_back(draw(1, 6));
    const std::string text = draw(0, 30);
    const Stop expected = stop_naively(text, stops);
    StopMatcher matcher(stops);
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t size = std::min<size_t>(random() % 5, text.size() - at);
      out += matcher.push(text.substr(at, size));
      at += size;
      // What is shown never has to be taken back.
      ASSERT_EQ(expected.text.compare(0, out.size(), out), 0);
      ASSERT_LE(out.size(), expected.text.size());
    }
    ASSERT_EQ(matcher.stopped(), expected.stopped);
    ASSERT_EQ(matcher.matched(), expected.matched);
    out += matcher.finish();
    ASSERT_EQ(out, expected.text);
    ASSERT_TRUE(matcher.finish().empty());
  }
}

TEST(StopMatcher, HoldsBackOnlyWhatCouldBecomeAStopString) {
  StopMatcher matcher({"<end>", "\n\n"});
  EXPECT_EQ(matcher.push("text <e"), "text ");
  EXPECT_EQ(matcher.push("x"), "<ex");
  EXPECT_EQ(matcher.push("\n"), "");
  EXPECT_EQ(matcher.push("a<end"), "\na");
  EXPECT_EQ(matcher.push("> more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.matched(), "<end>");
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, RefusesStopStringsThatCannotBeText) {
  EXPECT_THROW(StopMatcher({"a", ""}), Error);
  EXPECT_THROW(StopMatcher({"\xFF"}), Error);
}

}  // namespace
}  // namespace forerun
