// Every field of a GGUF header with a lie in it, one at a time.
#include <gtest/gtest.h>

#include "io/checkpoint.h"
#include "io/expect_error.h"
#include "io/gguf_writer.h"
#include "io/temp_folder.h"

namespace forerun::test {
namespace {

constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();

void expect_refused(const std::string& bytes, std::vector<std::string> fragments,
                    ErrorKind kind = ErrorKind::kBadFile) {
  const TempFolder folder;
  const std::string path = folder.write("bad.gguf", bytes);
  fragments.push_back("bad.gguf");
  expect_error([&] { open_checkpoint(path); }, kind, fragments);
}

void expect_refused(const GgufWriter& file, std::vector<std::string> fragments,
                    ErrorKind kind = ErrorKind::kBadFile) {
  expect_refused(file.build(), std::move(fragments), kind);
}

GgufWriter with_tensor(GgufWriter::Tensor tensor) {
  GgufWriter file;
  return file.tensor(std::move(tensor));
}

TEST(GgufReader, RefusesEveryTruncationOfAFile) {
  const std::string whole = full_gguf().build();
  const TempFolder folder;
  for (size_t length = 0; length < whole.size(); ++length) {
    const std::string path = folder.write("bad.gguf", whole.substr(0, length));
    expect_error([&] { open_checkpoint(path); }, ErrorKind::kBadFile, {"bad.gguf"});
  }
}

TEST(GgufReader, RefusesAnotherMagicNumber) {
  GgufWriter file = full_gguf();
  file.magic = "GGML";
  expect_refused(file, {"magic", "'GGML'"});
  file.magic = std::string("\0\xFF\n'", 4);
  expect_refused(file, {"'\\x00\\xff\\x0a''"});
}

TEST(GgufReader, RefusesVersionsOtherThanTwoAndThree) {
  for (const uint32_t version : {0U, 1U, 4U, 0xFFFFFFFFU}) {
    GgufWriter file = full_gguf();
    file.version = version;
    expect_refused(file, {"GGUF version " + std::to_string(version)}, ErrorKind::kUnsupported);
  }
}

TEST(GgufReader, SaysThatAFileIsBigEndian) {
  GgufWriter file = full_gguf();
  file.version = 0x03000000;
  expect_refused(file, {"big-endian"}, ErrorKind::kUnsupported);
}

TEST(GgufReader, RefusesCountsThatTheFileCannotHold) {
  // The last two, times the least size of a pair and of a tensor description, wrap to next to
  // nothing.
  for (const uint64_t count : {uint64_t{1000}, uint64_t{1} << 32, uint64_t{1} << 62, kHuge,
                               uint64_t{1} << 63, kHuge / 33 + 1}) {
    GgufWriter tensors = full_gguf();
    tensors.tensor_count = count;
    expect_refused(tensors, {"tensor count", std::to_string(count)});
    GgufWriter pairs = full_gguf();
    pairs.pair_count = count;
    expect_refused(pairs, {"metadata count", std::to_string(count)});
  }
}

TEST(GgufReader, RefusesKeysThatAreEmptyTooLongOrNotAscii) {
  expect_refused(GgufWriter().pair("", kU64, raw(kHuge)), {"metadata pair 0", "key is empty"});
  expect_refused(GgufWriter().pair(std::string(65536, 'k'), kU8, "1"), {"key length 65536"});
  expect_refused(GgufWriter().pair("a\nb", kU8, "1"), {"'a\\x0ab'", "ASCII"});
  GgufWriter file;
  file.pairs.push_back(raw(kHuge) + std::string(32, 'x'));
  expect_refused(file, {"key length 18446744073709551615"});
}

TEST(GgufReader, RefusesAKeyGivenTwice) {
  expect_refused(GgufWriter().pair("k", kU8, "1").pair("k", kU8, "2"), {"'k'", "twice"});
}

TEST(GgufReader, RefusesUnknownValueTypes) {
  expect_refused(GgufWriter().pair("k", 13, raw(kHuge)), {"'k'", "unknown value type 13"});
  expect_refused(GgufWriter().list("k", 13, 1, raw(kHuge)), {"'k'", "array element type 13"});
}

TEST(GgufReader, RefusesArraysOfArrays) {
  expect_refused(GgufWriter().list("k", kArray, 1, raw<uint32_t>(kU8) + raw<uint64_t>(1) + "x"),
                 {"'k'", "array of arrays"}, ErrorKind::kUnsupported);
}

TEST(GgufReader, RefusesBooleansOtherThanZeroAndOne) {
  expect_refused(GgufWriter().pair("k", kBool, "\2"), {"'k'", "boolean is 2"});
  expect_refused(GgufWriter().list("k", kBool, 2, "\1\xFF"), {"'k'", "boolean is 255"});
}

TEST(GgufReader, RefusesArrayLengthsBeforeReservingForThem) {
  for (const uint32_t type : {uint32_t{kU8}, uint32_t{kBool}, uint32_t{kF64}, uint32_t{kString}}) {
    for (const uint64_t count : {uint64_t{9000}, uint64_t{1} << 33, uint64_t{1} << 61, kHuge}) {
      expect_refused(GgufWriter().list("k", type, count, std::string(64, '\0')),
                     {"'k'", "array length " + std::to_string(count)});
    }
  }
}

TEST(GgufReader, RefusesMoreListElementsThanTheCapOverAllLists) {
  const std::string items((size_t{1} << 23) + 1, '\0');
  expect_refused(
      GgufWriter().list("a", kU8, items.size(), items).list("b", kU8, items.size(), items),
      {"'b'", "all arrays together"});
}

TEST(GgufReader, RefusesStringsLongerThanTheFile) {
  expect_refused(GgufWriter().pair("k", kString, raw<uint64_t>(1000) + "short"),
                 {"'k'", "1000 bytes"});
  expect_refused(GgufWriter().pair("k", kString, raw(kHuge) + "short"), {"'k'", "length"});
  expect_refused(GgufWriter().list("k", kString, 1, raw(kHuge - 7) + "short"), {"'k'", "length"});
}

TEST(GgufReader, RefusesAlignmentsThatAreNotAPowerOfTwoInRange) {
  for (const uint32_t alignment : {0U, 1U, 4U, 24U, 33U, 1U << 21, 0xFFFFFFFFU}) {
    GgufWriter file = full_gguf();
    file.pair("general.alignment", kU32, raw(alignment));
    expect_refused(file, {"'general.alignment'", std::to_string(alignment)});
  }
  GgufWriter file = full_gguf();
  file.pair("general.alignment", kString, raw_string("32"));
  expect_refused(file, {"'general.alignment'", "unsigned integer"});
}

TEST(GgufReader, RefusesOnePartOfASplitModel) {
  GgufWriter file = full_gguf();
  file.pair("split.count", kU16, raw<uint16_t>(4));
  expect_refused(file, {"'split.count'", "4 files"}, ErrorKind::kUnsupported);
}

TEST(GgufReader, RefusesTensorNamesThatAreEmptyTooLongOrNotAscii) {
  expect_refused(with_tensor({"", {1}, 0, "1234"}), {"tensor 0", "name is empty"});
  expect_refused(with_tensor({std::string(256, 'n'), {1}, 0, "1234"}), {"name length 256"});
  expect_refused(with_tensor({"n\x7F", {1}, 0, "1234"}), {"'n\\x7f'", "ASCII"});
}

TEST(GgufReader, RefusesATensorNameGivenTwice) {
  GgufWriter file;
  file.tensor({"n", {1}, 0, "1234"}).tensor({"n", {1}, 0, "1234"});
  expect_refused(file, {"'n'", "twice"});
}

TEST(GgufReader, RefusesDimensionCountsOutsideOneToFour) {
  expect_refused(with_tensor({"n", {}, 0, "1234"}), {"'n'", "dimension count is 0"});
  expect_refused(with_tensor({"n", {1, 1, 1, 1, 1}, 0, "1234"}), {"'n'", "dimension count is 5"});
  expect_refused(with_tensor({"n", {1}, 0, "1234", {}, 0xFFFFFFFFU}), {"count is 4294967295"});
}

TEST(GgufReader, RefusesExtentsThatAreNotPositive) {
  expect_refused(with_tensor({"n", {4, 0}, 0, "1234"}), {"'n'", "extent is 0"});
  expect_refused(with_tensor({"n", {kHuge}, 0, "1234"}), {"'n'", "extent is -1"});
}

TEST(GgufReader, RefusesExtentsWhoseProductOverflows) {
  const uint64_t big = uint64_t{1} << 32;
  expect_refused(with_tensor({"n", {big, big}, 0, "1234"}), {"'n'", "overflows"});
  expect_refused(with_tensor({"n", {uint64_t{1} << 62}, 0, "1234"}), {"'n'", "overflows"});
  // 2^62 elements times 4 bytes is 2^64: 0 after wrapping, which would fit any file.
  expect_refused(with_tensor({"n", {uint64_t{1} << 31, uint64_t{1} << 31}, 0, ""}), {"overflows"});
}

TEST(GgufReader, RefusesRowsThatDoNotFillBlocks) {
  expect_refused(with_tensor({"n", {48, 2}, 8, std::string(102, 'x')}), {"'n'", "48", "Q8_0"});
  expect_refused(with_tensor({"n", {128, 2}, 12, std::string(144, 'x')}), {"'n'", "128", "Q4_K"});
}

TEST(GgufReader, NamesTensorTypesThatItDoesNotRead) {
  expect_refused(with_tensor({"n", {256}, 10, std::string(84, 'x')}), {"'n'", "Q2_K"},
                 ErrorKind::kUnsupported);
  expect_refused(with_tensor({"n", {256}, 39, std::string(84, 'x')}), {"'n'", "MXFP4"},
                 ErrorKind::kUnsupported);
  expect_refused(with_tensor({"n", {256}, 4, std::string(84, 'x')}), {"'n'", "type 4"},
                 ErrorKind::kUnsupported);
  expect_refused(with_tensor({"n", {256}, 0xFFFFFFFFU, "x"}), {"type 4294967295"},
                 ErrorKind::kUnsupported);
}

TEST(GgufReader, RefusesOffsetsThatAreNotAlignedOrLeaveTheFile) {
  expect_refused(with_tensor({"n", {1}, 0, "1234", 4}), {"'n'", "offset 4", "alignment 32"});
  expect_refused(with_tensor({"n", {1}, 0, "1234", 32}), {"'n'", "offset 32", "end past"});
  // offset + size wraps to a small number
  expect_refused(with_tensor({"n", {8}, 0, std::string(32, 'x'), kHuge - 31}), {"'n'", "end past"});
  expect_refused(with_tensor({"n", {2}, 0, "1234"}), {"'n'", "8 bytes", "end past"});
}

TEST(GgufReader, RefusesTensorsThatOverlap) {
  GgufWriter file;
  file.tensor({"first", {16}, 0, std::string(64, 'x')}).tensor({"second", {1}, 0, "1234", 32});
  expect_refused(file, {"'second'", "overlaps", "'first'"});
}

}  // namespace
}  // namespace forerun::test
