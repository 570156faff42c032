// Every field of a safetensors header with a lie in it, one at a time.
#include "io/safetensors.h"

#include <gtest/gtest.h>

#include "io/expect_error.h"
#include "io/safetensors_writer.h"

namespace forerun::test {
namespace {

std::vector<TensorSource> read(const std::string& bytes) {
  const TempFolder folder;
  return read_safetensors(*MappedFile::open(folder.write("w.safetensors", bytes)));
}

void expect_refused(const std::string& bytes, std::vector<std::string> fragments,
                    ErrorKind kind = ErrorKind::kBadFile) {
  fragments.push_back("w.safetensors");
  expect_error([&] { read(bytes); }, kind, fragments);
}

// A file whose only tensor 'n' has these fields, over eight bytes of data.
std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return safetensors(
      "{\"n\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}",
      "12345678");
}

TEST(Safetensors, AcceptsAHeaderPaddedWithSpaces) {
  EXPECT_EQ(read(safetensors(all_dtypes_header() + "     ", std::string(47, 'x'))).size(), 5U);
}

TEST(Safetensors, RefusesEveryTruncationOfAFile) {
  const std::string whole = all_dtypes_file();
  for (size_t length = 0; length < whole.size(); ++length) {
    expect_refused(whole.substr(0, length), {});
  }
}

TEST(Safetensors, RefusesHeaderLengthsBeyondTheFileOrTheCap) {
  expect_refused(raw<uint64_t>(100) + "{}", {"header", "100 bytes"});
  expect_refused(raw<uint64_t>(100'000'001) + "{}", {"header length 100000001"});
  expect_refused(raw(std::numeric_limits<uint64_t>::max()) + "{}", {"header length"});
}

TEST(Safetensors, RefusesHeadersThatAreNotAnObject) {
  expect_refused(safetensors("", ""), {"not valid JSON"});
  expect_refused(safetensors("[]", ""), {"not a JSON object"});
  expect_refused(safetensors("{\"n\":7}", ""), {"'n'", "not a JSON object"});
  expect_refused(safetensors("{}x", ""), {"not valid JSON"});
}

TEST(Safetensors, RefusesANameGivenTwice) {
  const std::string field = R"("n":{"dtype":"I8","shape":[1],"data_offsets":[0,1]})";
  expect_refused(safetensors("{" + field + "," + field + "}", "1"), {"'n'", "twice"});
}

TEST(Safetensors, RefusesNamesThatAreEmptyOrTooLong) {
  const std::string field = R"(":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})";
  expect_refused(safetensors("{\"" + field, "1"), {"0 bytes"});
  expect_refused(safetensors("{\"" + std::string(1025, 'n') + field, "1"), {"1025 bytes"});
}

TEST(Safetensors, RefusesDtypesThatItDoesNotRead) {
  expect_refused(entry("\"F8_E4M3\"", "[8]", "[0,8]"), {"'n'", "'F8_E4M3'"},
                 ErrorKind::kUnsupported);
  expect_refused(entry("\"I64\"", "[1]", "[0,8]"), {"'n'", "'I64'"}, ErrorKind::kUnsupported);
  expect_refused(entry("8", "[8]", "[0,8]"), {"'n'", "dtype"});
  expect_refused(safetensors(R"({"n":{"shape":[1],"data_offsets":[0,1]}})", "1"),
                 {"dtype is missing"});
}

TEST(Safetensors, RefusesShapesThatAreNotPositiveWholeNumbers) {
  for (const char* shape : {"[0]", "[-8]", "[8.0]", "[\"8\"]", "[[8]]", "[18446744073709551615]",
                            "[99999999999999999999]", "[null]", "[true]"}) {
    expect_refused(entry("\"I8\"", shape, "[0,8]"), {"'n'", "shape"});
  }
  expect_refused(entry("\"I8\"", "8", "[0,8]"), {"'n'", "shape"});
  expect_refused(entry("\"I8\"", "[1,1,1,1,1,1,1,1,8]", "[0,8]"), {"'n'", "shape"});
}

TEST(Safetensors, RefusesShapesWhoseProductOverflows) {
  expect_refused(entry("\"F32\"", "[4611686018427387904]", "[0,0]"), {"'n'", "overflows"});
  expect_refused(entry("\"I8\"", "[4294967296,4294967296]", "[0,0]"), {"'n'", "overflows"});
}

TEST(Safetensors, RefusesOffsetsOutsideTheData) {
  for (const char* offsets :
       {"[8,0]", "[0,9]", "[9,9]", "[0,18446744073709551615]", "[18446744073709551608,0]"}) {
    expect_refused(entry("\"I8\"", "[8]", offsets), {"'n'", "do not lie in the data"});
  }
  for (const char* offsets : {"[0]", "[0,8,8]", "[-1,7]", "[0,8.0]", "{}", "\"0,8\""}) {
    expect_refused(entry("\"I8\"", "[8]", offsets), {"'n'", "data_offsets is not a pair"});
  }
}

TEST(Safetensors, RefusesOffsetsThatDisagreeWithTheShape) {
  expect_refused(entry("\"F16\"", "[3]", "[0,8]"), {"'n'", "6 bytes", "give 8"});
  expect_refused(entry("\"F32\"", "[]", "[0,8]"), {"'n'", "4 bytes", "give 8"});
}

TEST(Safetensors, RefusesGapsOverlapsAndTrailingBytes) {
  const auto two = [](const char* first, const char* second) {
    return safetensors(std::string(R"({"a":{"dtype":"I8","shape":[4],"data_offsets":)") + first +
                           R"(},"b":{"dtype":"I8","shape":[4],"data_offsets":)" + second + "}}",
                       "123456789");
  };
  expect_refused(two("[0,4]", "[2,6]"), {"'b'", "begin at 2", "ends at 4"});
  expect_refused(two("[0,4]", "[0,4]"), {"begin at 0", "ends at 4"});
  expect_refused(two("[0,4]", "[5,9]"), {"'b'", "begin at 5"});
  expect_refused(two("[5,9]", "[1,5]"), {"'b'", "begin at 1"});
  expect_refused(two("[0,4]", "[4,8]"), {"9 bytes", "cover 8"});
}

}  // namespace
}  // namespace forerun::test
