#include "text/utf8.h"

#include <gtest/gtest.h>

#include "text/unicode.h"

namespace forerun {
namespace {

// Well-formed UTF-8 by enumeration of the byte patterns of RFC 3629, section 4.
bool is_well_formed(const std::string& s) {
  const auto b = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  const auto tail = [&](size_t i) { return b(i) >= 0x80 && b(i) <= 0xBF; };
  if (s.size() == 1) return b(0) <= 0x7F;
  if (s.size() == 2) return b(0) >= 0xC2 && b(0) <= 0xDF && tail(1);
  if (s.size() == 3) {
    const bool second = b(0) == 0xE0   ? b(1) >= 0xA0 && b(1) <= 0xBF
                        : b(0) == 0xED ? b(1) >= 0x80 && b(1) <= 0x9F
                                       : tail(1);
    return b(0) >= 0xE0 && b(0) <= 0xEF && second && tail(2);
  }
  const bool second = b(0) == 0xF0   ? b(1) >= 0x90 && b(1) <= 0xBF
                      : b(0) == 0xF4 ? b(1) >= 0x80 && b(1) <= 0x8F
                                     : tail(1);
  return b(0) >= 0xF0 && b(0) <= 0xF4 && second && tail(2) && tail(3);
}

TEST(Utf8, EveryThreeByteStringIsJudgedAsTheGrammarSays) {
  for (uint32_t bits = 0; bits < 1U << 24; bits += bits < 0x800000 ? 257 : 1) {
    std::string text;
    for (const int shift : {16, 8, 0}) text.push_back(static_cast<char>(bits >> shift));
    for (size_t length = 1; length <= 3; ++length) {
      const std::string part = text.substr(0, length);
      const Utf8Part found = scan_utf8(part, 0);
      const bool whole = found.state == Utf8State::kComplete && found.length == length;
      ASSERT_EQ(whole, is_well_formed(part)) << std::hex << bits << " " << length;
    }
  }
}

TEST(Utf8, EveryCodePointSurvivesTheRoundTrip) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(text, c);
    ASSERT_TRUE(is_well_formed(text)) << c;
    ASSERT_EQ(decode_utf8(text, 0).value, c);
    ASSERT_EQ(decode_utf8(text, 0).length, text.size());
  }
}

TEST(Utf8, InvalidBytesComeOneByOneAndGoBackAsTheyWere) {
  const std::string text = "a\xE2\x82\xC0\xFF\xF4\x90\x80\x80z";
  std::string back;
  size_t steps = 0;
  for (size_t at = 0; at < text.size(); ++steps) {
    const CodePoint c = decode_utf8(text, at);
    append_utf8(back, c.value);
    at += c.length;
  }
  EXPECT_EQ(back, text);
  EXPECT_EQ(steps, text.size());
  EXPECT_FALSE(is_valid_utf8(text));
  EXPECT_TRUE(is_valid_utf8("\xF4\x8F\xBF\xBF\xC2\x80"));
}

TEST(Unicode, ClassesOfWellKnownCharacters) {
  const std::pair<uint32_t, CharClass> known[] = {
      {'a', kLetter},   {'Z', kLetter},     {0xAA, kLetter},    {0x4E00, kLetter},
      {0x5D0, kLetter}, {0x1D49C, kLetter}, {'7', kNumber},     {0xB2, kNumber},
      {0x661, kNumber}, {0x2167, kNumber},  {0x9, kSpace},      {0xD, kSpace},
      {0x85, kSpace},   {0xA0, kSpace},     {0x3000, kSpace},   {0x200B, kOther},
      {0x1C, kOther},   {'_', kOther},      {0x301, kOther},    {0x1F44B, kOther},
      {0xE000, kOther}, {0x110080, kOther}, {0x10FFFF, kOther},
  };
  for (const auto& [code_point, expected] : known)
    EXPECT_EQ(char_class(code_point), expected) << code_point;
}

// Cases of Unicode's NormalizationTest.txt and UAX 15.
TEST(Unicode, ComposesAsTheStandardSays) {
  EXPECT_EQ(to_nfc("e\xCC\x81"), "\xC3\xA9");              // e + acute
  EXPECT_EQ(to_nfc("\xE2\x84\xAB"), "\xC3\x85");           // angstrom sign
  EXPECT_EQ(to_nfc("o\xCC\x82\xCC\xA3"), "\xE1\xBB\x99");  // marks in the wrong order
  EXPECT_EQ(to_nfc("\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8"), "\xEA\xB0\x81");  // Hangul
  EXPECT_EQ(to_nfc("\xE0\xA5\x98"), "\xE0\xA4\x95\xE0\xA4\xBC");  // composition exclusion
  EXPECT_EQ(to_nfc("a\xCC\x85\xCC\x81"), "a\xCC\x85\xCC\x81");    // a mark of the same class blocks
  EXPECT_EQ(to_nfc("a\xCC\xA8\xCC\x81 \xFF\xCC\x81"), "\xC4\x85\xCC\x81 \xFF\xCC\x81");
}

}  // namespace
}  // namespace forerun
