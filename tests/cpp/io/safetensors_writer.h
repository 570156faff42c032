#pragma once

#include <string>
#include <string_view>

#include "io/gguf_writer.h"
#include "io/temp_folder.h"

namespace forerun::test {

inline std::string safetensors(std::string_view header, std::string_view data) {
  return raw_string(header) + std::string(data);
}

inline std::string all_dtypes_header() {
  return R"({"__metadata__":{"format":"pt"},)"
         R"("w.f32":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
         R"("w.bf16":{"dtype":"BF16","shape":[4],"data_offsets":[30,38]},)"
         R"("w.f16":{"dtype":"F16","shape":[3,1],"data_offsets":[24,30]},)"
         R"("w.i8":{"dtype":"I8","shape":[5],"data_offsets":[38,43]},)"
         R"("w.scalar":{"dtype":"I32","shape":[],"data_offsets":[43,47]}})";
}

inline std::string all_dtypes_file() {
  std::string data(47, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 29 + 3);
  return safetensors(all_dtypes_header(), data);
}

inline constexpr std::string_view kConfig =
    R"({"architectures":["LlamaForCausalLM"],"hidden_size":64,"rms_norm_eps":1e-05,"tie":true,)"
    R"("rope_scaling":{"factor":8.0,"rope_type":"llama3","nested":{"deep":-3}},"eos_token_id":[1,2],)"
    R"("mixed":[1,2.5],"flags":[true,false],"none":null,"empty":[],"odd":[1,"a",{"x":2}],)"
    R"("big":18446744073709551615})";

}  // namespace forerun::test
