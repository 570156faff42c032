// Thousands of damaged files: each must open or be refused with Error, whatever the damage. Built
// with -DFORERUN_SANITIZE=address,undefined the sweep also shows that no byte outside a file is
// read.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <typeinfo>

#include "base/blocks.h"
#include "base/error.h"
#include "io/checkpoint.h"
#include "io/safetensors_writer.h"

namespace forerun::test {
namespace {

using Random = std::mt19937_64;

size_t below(Random& random, size_t limit) { return limit == 0 ? 0 : random() % limit; }

// Numbers at which unchecked arithmetic goes wrong, written over a field or over any place of the
// file.
void overwrite_number(std::string& bytes, Random& random) {
  constexpr uint64_t kTop = uint64_t{1} << 63;
  const std::array<uint64_t, 18> extremes = {0,
                                             1,
                                             2,
                                             31,
                                             33,
                                             0x7F,
                                             0xFFFF,
                                             0x7FFFFFFF,
                                             0xFFFFFFFF,
                                             uint64_t{1} << 32,
                                             uint64_t{1} << 61,
                                             uint64_t{1} << 62,
                                             kTop - 1,
                                             kTop,
                                             kTop + 1,
                                             ~uint64_t{0},
                                             ~uint64_t{0} - 31,
                                             bytes.size()};
  const uint64_t value = extremes[below(random, extremes.size())];
  const size_t width = std::min(bytes.size(), size_t{1} << below(random, 4));
  const size_t place = below(random, bytes.size() - width + 1);
  std::copy_n(reinterpret_cast<const char*>(&value), width,
              bytes.begin() + static_cast<long>(place));
}

void flip_bits(std::string& bytes, Random& random) {
  for (size_t flips = 1 + below(random, 4); flips > 0; --flips) {
    bytes[below(random, bytes.size())] ^= static_cast<char>(1 << below(random, 8));
  }
}

// Copies, moves in or cuts out a stretch of the same file.
void splice(std::string& bytes, Random& random) {
  const size_t from = below(random, bytes.size());
  const size_t length = 1 + below(random, std::min<size_t>(64, bytes.size() - from));
  const std::string piece = bytes.substr(from, length);
  const size_t to = below(random, bytes.size());
  switch (below(random, 3)) {
    case 0:
      bytes.insert(to, piece);
      break;
    case 1:
      bytes.replace(to, std::min(length, bytes.size() - to), piece);
      break;
    default:
      bytes.erase(from, length);
      break;
  }
}

// Another number in place of one in the JSON header, its length corrected so that the rest still
// parses.
void rewrite_json_number(std::string& bytes, Random& random) {
  static constexpr std::array<const char*, 10> kNumbers = {"0",
                                                           "-1",
                                                           "1e3",
                                                           "3.5",
                                                           "2147483648",
                                                           "4294967296",
                                                           "4611686018427387904",
                                                           "9223372036854775807",
                                                           "18446744073709551615",
                                                           "99999999999999999999"};
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  std::string header = bytes.substr(8, length);
  const std::string data = bytes.substr(8 + header.size());
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  size_t at = below(random, header.size());
  while (at < header.size() && !digit(header[at])) ++at;
  size_t end = at;
  while (end < header.size() && digit(header[end])) ++end;
  header.replace(at, end - at, kNumbers[below(random, kNumbers.size())]);
  bytes = safetensors(header, data);
}

struct Tally {
  int opened = 0, refused = 0;
};

// Opens, and touches the first block of every tensor and its last byte.
void open_and_touch(const std::string& path, Tally& tally, const std::string& label) {
  try {
    const auto file = open_checkpoint(path);
    std::array<float, 256> values;
    for (const TensorSource& tensor : file->tensors()) {
      const DTypeInfo& info = dtype_info(tensor.dtype);
      ASSERT_GE(tensor.bytes.size(), static_cast<size_t>(info.block_bytes)) << label;
      volatile std::byte last = tensor.bytes.back();
      static_cast<void>(last);
      if (tensor.dtype == DType::kI8 || tensor.dtype == DType::kI32) continue;
      dequantize(tensor.dtype, tensor.bytes.data(), info.block, values.data());
    }
    ++tally.opened;
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7F; }))
        << label;
    ++tally.refused;
  } catch (const std::exception& other) {
    ADD_FAILURE() << label << ": " << typeid(other).name() << ": " << other.what();
  }
}

using Mutation = void (*)(std::string&, Random&);

// `name` is the file under attack; a mutation hits only its first `reach` bytes half of the time,
// since damage to tensor data is harmless.
Tally sweep(const TempFolder& folder, const std::string& name, const std::string& whole,
            size_t reach, const std::vector<Mutation>& mutations, int rounds, uint64_t seed) {
  Tally tally;
  const bool is_gguf = name.ends_with(".gguf");
  for (int round = 0; round < rounds; ++round) {
    Random random(seed + static_cast<uint64_t>(round));
    const bool header_only = below(random, 4) != 0;
    std::string bytes = header_only ? whole.substr(0, reach) : whole;
    for (size_t times = 1 + below(random, 3); times > 0 && !bytes.empty(); --times) {
      mutations[below(random, mutations.size())](bytes, random);
    }
    if (header_only) bytes += whole.substr(reach);
    if (below(random, 10) == 0) bytes.resize(below(random, bytes.size() + 1));
    const std::string path = folder.write(name, bytes);
    open_and_touch(is_gguf ? path : folder.path(), tally, name + " round " + std::to_string(round));
    if (::testing::Test::HasFailure()) return tally;
  }
  return tally;
}

const std::vector<Mutation> kBinary = {flip_bits, overwrite_number, overwrite_number, splice};

TEST(MutationSweep, DamagedGgufFilesOpenOrAreRefused) {
  const GgufWriter full = full_gguf();
  GgufWriter small;
  small.version = 2;
  small.tensor({"a", {32, 2}, 8, std::string(68, 'x')}).tensor({"b", {4}, 0, std::string(16, 'y')});
  GgufWriter aligned = small;
  aligned.alignment = 64;
  aligned.pair("general.alignment", kU32, raw<uint32_t>(64));
  uint64_t seed = 1;
  for (const GgufWriter& writer : {full, small, aligned}) {
    const TempFolder folder;
    const Tally tally =
        sweep(folder, "m.gguf", writer.build(), writer.header().size(), kBinary, 5000, seed);
    EXPECT_GT(tally.opened, 100);    // the damage is fine enough to get past the first check,
    EXPECT_GT(tally.refused, 1000);  // and strong enough to matter
    seed += 1000000;
  }
}

// Every field of the tensor descriptions in turn, with every extreme value: nothing is left to
// chance.
TEST(MutationSweep, ExtremeNumbersAtEveryByteOfAGgufHeaderOpenOrAreRefused) {
  GgufWriter writer;
  writer.list("k", kString, 2, raw_string("one") + raw_string("two"));
  writer.tensor({"a", {32, 2}, 8, std::string(68, 'x')})
      .tensor({"b", {4}, 0, std::string(16, 'y')});
  const std::string whole = writer.build();
  const TempFolder folder;
  Tally tally;
  for (size_t at = 0; at + 8 <= writer.header().size(); ++at) {
    for (const uint64_t value : {uint64_t{0}, uint64_t{1} << 31, uint64_t{1} << 62,
                                 uint64_t{1} << 63, ~uint64_t{0}, ~uint64_t{0} - 31}) {
      std::string bytes = whole;
      bytes.replace(at, 8, raw(value));
      open_and_touch(folder.write("m.gguf", bytes), tally, "byte " + std::to_string(at));
    }
  }
  EXPECT_GT(tally.refused, 500);
}

TEST(MutationSweep, DamagedSafetensorsOpenOrAreRefused) {
  const TempFolder folder;
  folder.write("config.json", kConfig);
  const std::string whole = all_dtypes_file();
  const size_t reach = whole.size() - 47;
  const Tally binary = sweep(folder, "model.safetensors", whole, reach, kBinary, 3000, 11);
  EXPECT_GT(binary.refused, 1000);
  const Tally numbers =
      sweep(folder, "model.safetensors", whole, reach, {rewrite_json_number}, 2000, 12);
  EXPECT_GT(numbers.refused, 1000);
}

TEST(MutationSweep, DamagedConfigurationsAndIndicesOpenOrAreRefused) {
  const TempFolder folder;
  folder.write("shard.safetensors", all_dtypes_file());
  const std::string index =
      R"({"metadata":{"total_size":47},"weight_map":{"w.f32":"shard.safetensors","w.i8":"shard.safetensors"}})";
  folder.write("model.safetensors.index.json", index);
  const std::vector<Mutation> text = {flip_bits, splice};
  const std::string config(kConfig);
  const Tally configs = sweep(folder, "config.json", config, config.size(), text, 2500, 21);
  EXPECT_GT(configs.opened, 100);
  EXPECT_GT(configs.refused, 500);
  folder.write("config.json", kConfig);
  const Tally indices =
      sweep(folder, "model.safetensors.index.json", index, index.size(), text, 2500, 22);
  EXPECT_GT(indices.refused, 500);
}

}  // namespace
}  // namespace forerun::test
