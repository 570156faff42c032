#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>

#include "io/checkpoint.h"
#include "io/expect_error.h"
#include "io/safetensors_writer.h"

namespace forerun::test {
namespace {

// A folder with a valid configuration; the tests add weights and lies.
struct Model : TempFolder {
  explicit Model(std::string_view config = kConfig) { write("config.json", config); }
  std::shared_ptr<const Checkpoint> open() const { return open_checkpoint(path()); }
  void expect_refused(const std::vector<std::string>& fragments,
                      ErrorKind kind = ErrorKind::kBadFile) const {
    expect_error([this] { open(); }, kind, fragments);
  }
};

std::string index_of(std::string_view weight_map) {
  return R"({"metadata":{"total_size":1},"weight_map":)" + std::string(weight_map) + "}";
}

std::string one_tensor(const std::string& name) {
  return safetensors("{\"" + name + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                     "1234");
}

TEST(HfFolder, FlattensTheConfiguration) {
  Model model;
  model.write("model.safetensors", all_dtypes_file());
  const auto file = model.open();
  EXPECT_EQ(file->format(), CheckpointFormat::kHuggingFace);
  EXPECT_EQ(*file->texts("architectures"), std::vector<std::string>{"LlamaForCausalLM"});
  EXPECT_EQ(file->integer("hidden_size"), 64);
  EXPECT_EQ(file->number("rms_norm_eps"), 1e-05);
  EXPECT_TRUE(file->boolean("tie", false));
  EXPECT_EQ(file->number("rope_scaling.factor"), 8.0);
  EXPECT_EQ(file->text("rope_scaling.rope_type"), "llama3");
  EXPECT_EQ(file->integer("rope_scaling.nested.deep"), -3);
  EXPECT_EQ(std::get<std::vector<int64_t>>(*file->find("eos_token_id")),
            (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(std::get<std::vector<double>>(*file->find("mixed")), (std::vector<double>{1, 2.5}));
  EXPECT_EQ(std::get<std::vector<bool>>(*file->find("flags")), (std::vector<bool>{true, false}));
  EXPECT_TRUE(std::get<std::vector<int64_t>>(*file->find("empty")).empty());
  EXPECT_EQ(file->find("none"), nullptr);
  EXPECT_EQ(file->integer("odd.0"), 1);
  EXPECT_EQ(file->text("odd.1"), "a");
  EXPECT_EQ(file->integer("odd.2.x"), 2);
  EXPECT_EQ(std::get<uint64_t>(*file->find("big")), std::numeric_limits<uint64_t>::max());
}

TEST(HfFolder, ViewsTheTensorsInTheOrderOfTheirData) {
  Model model;
  const std::string bytes = all_dtypes_file();
  model.write("model.safetensors", bytes);
  const auto file = model.open();
  ASSERT_EQ(file->tensors().size(), 5U);
  const std::vector<std::string> names{"w.f32", "w.f16", "w.bf16", "w.i8", "w.scalar"};
  const std::vector<DType> dtypes{DType::kF32, DType::kF16, DType::kBF16, DType::kI8, DType::kI32};
  std::string seen;
  for (size_t i = 0; i < names.size(); ++i) {
    const TensorSource& tensor = file->tensors()[i];
    EXPECT_EQ(tensor.name, names[i]);
    EXPECT_EQ(tensor.dtype, dtypes[i]);
    seen.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
  }
  EXPECT_EQ(seen, bytes.substr(bytes.size() - 47));
  EXPECT_EQ(file->tensor("w.f32").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_TRUE(file->tensor("w.scalar").shape.empty());
  EXPECT_EQ(file->file_bytes(), static_cast<int64_t>(bytes.size()));
}

TEST(HfFolder, KeepsTheSideFilesThatAreThere) {
  Model model;
  model.write("model.safetensors", all_dtypes_file());
  model.write("tokenizer.json", "{\"a\": 1}");
  model.write("chat_template.jinja", "{{ x }}");
  model.write("notes.txt", "ignored");
  const auto file = model.open();
  EXPECT_EQ(file->side_file("tokenizer.json"), "{\"a\": 1}");
  EXPECT_EQ(file->side_file("chat_template.jinja"), "{{ x }}");
  EXPECT_EQ(file->side_file("config.json"), kConfig);
  EXPECT_EQ(file->side_file("generation_config.json"), "");
  EXPECT_EQ(file->side_file("notes.txt"), "");
}

TEST(HfFolder, JoinsTheShardsOfTheIndex) {
  Model model;
  model.write("one.safetensors", one_tensor("a"));
  model.write("two.safetensors", one_tensor("b"));
  model.write("model.safetensors.index.json",
              index_of(R"({"b":"two.safetensors","a":"one.safetensors"})"));
  const auto file = model.open();
  EXPECT_EQ(file->tensors().size(), 2U);
  EXPECT_EQ(std::memcmp(file->tensor("b").bytes.data(), "1234", 4), 0);
}

TEST(HfFolder, RefusesAFolderWithoutConfigurationOrWeights) {
  const TempFolder empty;
  expect_error([&] { open_checkpoint(empty.path()); }, ErrorKind::kBadFile,
               {"config.json", "missing"});
  Model().expect_refused({"neither model.safetensors"});
}

TEST(HfFolder, RefusesABadConfiguration) {
  const auto refused = [](const std::string& config, const std::vector<std::string>& fragments) {
    Model model(config);
    model.write("model.safetensors", all_dtypes_file());
    model.expect_refused(fragments);
  };
  refused("", {"config.json", "not valid JSON"});
  refused("[1]", {"config.json", "not an object"});
  refused("{\"a\": 1", {"config.json", "not valid JSON"});
  refused(R"({"a":1,"a":2})", {"config.json", "'a'", "twice"});
  refused(R"({"a.b":1,"a":{"b":2}})", {"config.json", "'a.b'", "twice"});
  refused("{\"a\": \"\xFF\"}", {"config.json", "not valid JSON"});
  refused("{\"a\": 1e999}", {"config.json", "out of range"});
  refused("{\"" + std::string(1025, 'k') + "\":1}", {"config.json", "longer than 1024"});
  refused("{\"" + std::string(600, 'k') + "\":{\"" + std::string(600, 'k') + "\":1}}",
          {"longer than 1024"});
  refused("{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}",
          {"nested deeper than 64"});
  refused("{\"a\":" + std::string(1000000, '['), {"nested deeper than 64"});
  refused("{\"a\":\"" + std::string(size_t{4} << 20, 'x') + "\"}", {"config.json", "file size"});
}

TEST(HfFolder, RefusesSideFilesThatAreTooLarge) {
  Model model;
  model.write("model.safetensors", all_dtypes_file());
  model.write("generation_config.json", std::string((size_t{1} << 20) + 1, ' '));
  model.expect_refused({"generation_config.json", "file size", "1048577"});
}

TEST(HfFolder, RefusesShardNamesThatLeaveTheFolder) {
  const TempFolder outside;
  outside.write("x.safetensors", one_tensor("a"));
  for (const std::string& name :
       {outside.path() + "/x.safetensors", std::string("../x.safetensors"),
        std::string(".safetensors"), std::string("a/../x.safetensors"),
        std::string("a\\\\x.safetensors"), std::string("x.bin"),
        std::string("x.safetensors\\u0000"), std::string(300, 'x') + ".safetensors"}) {
    Model model;
    model.write("model.safetensors.index.json", index_of("{\"a\":\"" + name + "\"}"));
    model.expect_refused({"weight_map", "plain file name"});
  }
}

TEST(HfFolder, RefusesAnIndexThatDoesNotFitTheShards) {
  const auto refused = [](const std::string& index, const std::vector<std::string>& fragments) {
    Model model;
    model.write("one.safetensors", one_tensor("a"));
    model.write("two.safetensors", one_tensor("b"));
    model.write("again.safetensors", one_tensor("a"));
    model.write("model.safetensors.index.json", index);
    model.expect_refused(fragments);
  };
  refused("[]", {"weight_map"});
  refused("{}", {"weight_map"});
  refused(index_of("[1]"), {"weight_map"});
  refused(index_of(R"({"a":1})"), {"'a'", "not a file name"});
  refused(index_of(R"({"a":""})"), {"'a'", "not a file name"});
  refused(index_of(R"({"c":"one.safetensors"})"), {"'c'", "not in shard 'one.safetensors'"});
  refused(index_of(R"({"a":"two.safetensors","b":"one.safetensors"})"), {"not in shard"});
  refused(index_of(R"({"a":"one.safetensors","b":"again.safetensors"})"), {"not in shard"});
  std::string many = "{";
  for (int i = 0; i <= 1024; ++i) {
    const std::string number = std::to_string(i);
    many += (i == 0 ? "\"" : ",\"") + number + "\":\"" + number + ".safetensors\"";
  }
  refused(index_of(many + "}"), {"more than 1024 shards"});
}

TEST(HfFolder, NamesAShardThatIsAbsent) {
  Model model;
  model.write("model.safetensors.index.json", index_of(R"({"a":"one.safetensors"})"));
  model.expect_refused({"one.safetensors", "No such file"}, ErrorKind::kBadArgument);
}

TEST(HfFolder, RefusesATensorInTwoShards) {
  Model model;
  model.write("one.safetensors", one_tensor("a"));
  model.write("two.safetensors",
              safetensors(R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},)"
                          R"("b":{"dtype":"I8","shape":[1],"data_offsets":[1,2]}})",
                          "12"));
  model.write("model.safetensors.index.json",
              index_of(R"({"a":"one.safetensors","b":"two.safetensors"})"));
  model.expect_refused({"'a'", "twice"});
}

TEST(OpenCheckpoint, RefusesPathsThatAreNoModel) {
  const TempFolder folder;
  const auto refused = [](const std::string& path, const std::vector<std::string>& fragments) {
    expect_error([&] { open_checkpoint(path); }, ErrorKind::kBadArgument, fragments);
  };
  refused(folder.path() + "/absent.gguf", {"absent.gguf", "No such file"});
  refused(folder.write("m.safetensors", all_dtypes_file()), {"m.safetensors", "folder"});
  refused(std::string("a\0b", 3), {"NUL"});
  ASSERT_EQ(::mkfifo((folder.path() + "/pipe").c_str(), 0600), 0);
  refused(folder.path() + "/pipe", {"pipe", "not a regular file"});
  expect_error([&] { open_checkpoint(folder.write("empty.gguf", "")); }, ErrorKind::kBadFile,
               {"empty.gguf", "magic"});
  expect_error([&] { open_gguf(folder.path()); }, ErrorKind::kBadArgument,
               {"a folder, expected a file"});
}

}  // namespace
}  // namespace forerun::test
