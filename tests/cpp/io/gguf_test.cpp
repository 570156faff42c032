#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "io/checkpoint.h"
#include "io/expect_error.h"
#include "io/gguf_writer.h"
#include "io/temp_folder.h"

namespace forerun::test {
namespace {

std::shared_ptr<const Checkpoint> open(const std::string& bytes) {
  const TempFolder folder;  // a mapping outlives its name
  return open_checkpoint(folder.write("model.gguf", bytes));
}

template <typename Value>
Value get(const Checkpoint& file, std::string_view key) {
  const MetaValue* value = file.find(key);
  return value == nullptr ? Value{} : std::get<Value>(*value);
}

TEST(GgufReader, WidensEveryScalarKindOfMetadata) {
  const auto file = open(full_gguf().build());
  EXPECT_EQ(file->format(), CheckpointFormat::kGguf);
  EXPECT_EQ(file->metadata().size(), 19U);
  EXPECT_EQ(get<std::string>(*file, "general.architecture"), "llama");
  EXPECT_EQ(get<uint64_t>(*file, "a.u8"), 200U);
  EXPECT_EQ(get<int64_t>(*file, "a.i8"), -100);
  EXPECT_EQ(get<uint64_t>(*file, "a.u16"), 60000U);
  EXPECT_EQ(get<int64_t>(*file, "a.i16"), -30000);
  EXPECT_EQ(get<uint64_t>(*file, "a.u32"), 4000000000U);
  EXPECT_EQ(get<int64_t>(*file, "a.i32"), -2000000000);
  EXPECT_EQ(get<uint64_t>(*file, "a.u64"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(get<int64_t>(*file, "a.i64"), -9000000000);
  EXPECT_EQ(get<double>(*file, "a.f32"), static_cast<double>(0.1F));
  EXPECT_EQ(get<double>(*file, "a.f64"), 0.1);
  EXPECT_TRUE(get<bool>(*file, "a.bool"));
}

TEST(GgufReader, ReadsListsOfEveryKind) {
  const auto file = open(full_gguf().build());
  EXPECT_EQ(get<std::vector<int64_t>>(*file, "b.i8"), (std::vector<int64_t>{-1, 2}));
  EXPECT_EQ(get<std::vector<uint64_t>>(*file, "b.u16"), (std::vector<uint64_t>{1, 65535}));
  EXPECT_EQ(get<std::vector<int64_t>>(*file, "b.i32"), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(get<std::vector<double>>(*file, "b.f32"), (std::vector<double>{-1.5, 2.25}));
  EXPECT_EQ(get<std::vector<bool>>(*file, "b.bool"), (std::vector<bool>{true, false, true}));
  ASSERT_NE(file->texts("b.string"), nullptr);
  EXPECT_EQ(*file->texts("b.string"), (std::vector<std::string>{"one", "", "\xE2\x82\xAC"}));
  ASSERT_NE(file->find("b.empty"), nullptr);
  EXPECT_TRUE(get<std::vector<uint64_t>>(*file, "b.empty").empty());
}

TEST(GgufReader, ReadsDroppedTensorsFromTheFileAgain) {
  GgufWriter writer = full_gguf();
  const auto file = open(writer.build());
  for (const TensorSource& tensor : file->tensors()) {
    const std::vector<std::byte> before(tensor.bytes.begin(), tensor.bytes.end());
    file->drop(tensor);
    EXPECT_TRUE(std::equal(before.begin(), before.end(), tensor.bytes.begin())) << tensor.name;
  }
  std::vector<std::byte> other(1 << 16, std::byte{7});  // not of the file: must stay as it is
  file->drop({"other", DType::kI8, {1 << 16}, other});
  EXPECT_EQ(std::count(other.begin(), other.end(), std::byte{7}), 1 << 16);
}

TEST(GgufReader, ViewsTheBytesOfEveryTensorType) {
  const GgufWriter writer = full_gguf();
  const auto file = open(writer.build());
  ASSERT_EQ(file->tensors().size(), writer.tensors.size());
  for (size_t i = 0; i < writer.tensors.size(); ++i) {
    const GgufWriter::Tensor& written = writer.tensors[i];
    const TensorSource& read = file->tensors()[i];
    EXPECT_EQ(read.name, written.name);
    EXPECT_EQ(std::vector<uint64_t>(read.shape.rbegin(), read.shape.rend()), written.extents);
    ASSERT_EQ(read.bytes.size(), written.data.size()) << read.name;
    EXPECT_EQ(std::memcmp(read.bytes.data(), written.data.data(), written.data.size()), 0);
    EXPECT_EQ(file->find_tensor(read.name), &read);
  }
  EXPECT_EQ(file->tensor("bf16").dtype, DType::kBF16);
  EXPECT_EQ(file->tensor("q5_k").dtype, DType::kQ5_K);
  EXPECT_EQ(file->tensor("f32").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file->find_tensor("absent"), nullptr);
}

TEST(GgufReader, ReadsVersionTwo) {
  GgufWriter writer = full_gguf();
  writer.version = 2;
  EXPECT_EQ(open(writer.build())->tensors().size(), writer.tensors.size());
}

TEST(GgufReader, HonoursTheAlignmentOfTheFile) {
  for (const uint32_t alignment : {8U, 64U, 4096U}) {
    GgufWriter writer = full_gguf();
    writer.alignment = alignment;
    writer.pair("general.alignment", kU32, raw(alignment));
    const auto file = open(writer.build());
    const auto& q6 = file->tensor("q6_k");
    EXPECT_EQ(std::memcmp(q6.bytes.data(), writer.tensors.back().data.data(), 210), 0);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(q6.bytes.data()) % alignment, 0U);
  }
}

TEST(GgufReader, OpensAFileWithoutTensors) {
  GgufWriter writer;
  writer.pair("general.architecture", kString, raw_string("llama"));
  const auto file = open(writer.build());
  EXPECT_TRUE(file->tensors().empty());
  EXPECT_EQ(file->file_bytes(), static_cast<int64_t>(writer.build().size()));
}

TEST(Checkpoint, ConvertsNumbersOnlyWhereNothingIsLost) {
  const auto file = open(full_gguf().build());
  EXPECT_EQ(file->integer("a.u32"), 4000000000);
  EXPECT_EQ(file->integer("a.i8"), -100);
  EXPECT_EQ(file->integer("absent", 7), 7);
  EXPECT_EQ(file->number("a.i8"), -100.0);
  EXPECT_EQ(file->number("a.u8"), 200.0);
  EXPECT_EQ(file->number("a.f64"), 0.1);
  EXPECT_EQ(file->number("absent", 0.5), 0.5);
  EXPECT_TRUE(file->boolean("a.bool", false));
  EXPECT_TRUE(file->boolean("absent", true));
  EXPECT_EQ(file->text("general.architecture"), "llama");
  EXPECT_EQ(file->text("absent", "none"), "none");
  EXPECT_EQ(file->texts("absent"), nullptr);
  EXPECT_EQ(file->side_file("tokenizer.json"), "");
}

TEST(Checkpoint, NamesTheKeyOfAWrongLookUp) {
  const auto file = open(full_gguf().build());
  const auto refuses = [](auto action, const std::vector<std::string>& fragments) {
    expect_error(action, ErrorKind::kBadFile, fragments);
  };
  refuses([&] { file->integer("absent"); }, {"model.gguf", "'absent'", "missing"});
  refuses([&] { file->number("absent"); }, {"'absent'", "missing"});
  refuses([&] { file->text("absent"); }, {"'absent'", "missing"});
  refuses([&] { file->integer("a.u64"); }, {"'a.u64'", "63 bits"});
  refuses([&] { file->integer("a.f32"); }, {"'a.f32'", "an integer expected", "a number"});
  refuses([&] { file->integer("a.bool", 0); }, {"'a.bool'", "a boolean"});
  refuses([&] { file->number("b.f32"); }, {"'b.f32'", "a list of numbers"});
  refuses([&] { file->boolean("a.u8", false); }, {"'a.u8'", "a boolean expected"});
  refuses([&] { file->text("a.u8"); }, {"'a.u8'", "a string expected", "an unsigned integer"});
  refuses([&] { file->texts("b.bool"); }, {"'b.bool'", "a list of booleans"});
  refuses([&] { file->tensor("absent"); }, {"tensor 'absent'", "missing"});
}

}  // namespace
}  // namespace forerun::test
