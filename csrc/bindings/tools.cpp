#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstdio>

#include "backend/backend.h"
#include "base/blocks.h"
#include "base/cpu_features.h"
#include "base/error.h"
#include "bindings/bindings.h"
#include "draft/datastore.h"
#include "io/checkpoint.h"
#include "model/config.h"
#include "text/tokenizer.h"
#include "verify/optimal_acceptance.h"

namespace py = pybind11;
using namespace py::literals;
using namespace forerun;

namespace {

// Strings of a file may hold any bytes (byte tokens, damaged text): what is not UTF-8 becomes
// U+FFFD.
py::str text_of(std::string_view bytes) {
  PyObject* text =
      PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace");
  if (text == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(text);
}

py::object to_python(const MetaValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return text_of(*text);
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    py::list out;
    for (const std::string& text : *texts) out.append(text_of(text));
    return out;
  }
  return std::visit([](const auto& v) -> py::object { return py::cast(v); }, value);
}

DType dtype_by_name(const std::string& name) {
  for (int i = 0; i < kDTypeCount; ++i) {
    if (dtype_info(static_cast<DType>(i)).name == name) return static_cast<DType>(i);
  }
  throw Error(ErrorKind::kBadArgument, "unknown tensor type '" + name + "'");
}

py::dict inspect(const std::string& path) {
  const auto file = open_checkpoint(path);
  py::dict metadata;
  for (const auto& [key, value] : file->metadata()) metadata[text_of(key)] = to_python(value);
  py::list tensors;
  int64_t parameters = 0;
  for (const TensorSource& tensor : file->tensors()) {
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) elements *= size;
    parameters += elements;
    tensors.append(py::dict("name"_a = text_of(tensor.name),
                            "dtype"_a = dtype_info(tensor.dtype).name, "shape"_a = tensor.shape,
                            "bytes"_a = tensor.bytes.size()));
  }
  std::string architecture, reason;
  try {
    architecture = read_model_config(*file).architecture;
    load_tokenizer(*file);
  } catch (const Error& error) {
    reason = error.what();
  }
  const bool gguf = file->format() == CheckpointFormat::kGguf;
  return py::dict("format"_a = gguf ? "gguf" : "huggingface", "path"_a = file->path(),
                  "file_bytes"_a = file->file_bytes(), "metadata"_a = metadata,
                  "tensors"_a = tensors, "architecture"_a = architecture,
                  "supported"_a = reason.empty(), "reason"_a = reason, "parameters"_a = parameters);
}

py::array_t<float> dequantize_bytes(const std::string& dtype, const py::bytes& data,
                                    int64_t elements) {
  const DType type = dtype_by_name(dtype);
  const std::string_view bytes = data;
  if (dtype_bytes(type, elements) != static_cast<int64_t>(bytes.size())) {
    throw Error(ErrorKind::kBadArgument, std::to_string(bytes.size()) + " bytes for " +
                                             std::to_string(elements) + " elements of " + dtype);
  }
  py::array_t<float> out(elements);
  dequantize(type, bytes.data(), elements, out.mutable_data());
  return out;
}

py::dict cpu_info() {
  const CpuFeatures& cpu = cpu_features();
  std::vector<std::string> features, available;
  const auto add = [&](bool present, const char* name) {
    if (present) features.emplace_back(name);
  };
  add(cpu.avx2, "avx2");
  add(cpu.fma, "fma");
  add(cpu.f16c, "f16c");
  add(cpu.avx_vnni, "avx_vnni");
  add(cpu.avx512, "avx512");
  add(cpu.avx512_vnni, "avx512_vnni");
  add(cpu.avx512_bf16, "avx512_bf16");
  add(cpu.amx_int8, "amx_int8");
  add(cpu.amx_bf16, "amx_bf16");
  for (const Isa isa : kIsas) {
    if (isa_available(isa)) available.emplace_back(isa_name(isa));
  }
  return py::dict("model"_a = cpu.model, "cores"_a = cpu.cores, "isa"_a = isa_name(selected_isa()),
                  "features"_a = features, "isas_available"_a = available);
}

}  // namespace

void bind_tools(py::module_& module) {
  module.def("inspect", &inspect, "path"_a);
  module.def("dequantize", &dequantize_bytes, "dtype"_a, "data"_a, "elements"_a);
  module.def("cpu_info", &cpu_info);
  module.def(
      "optimal_acceptance",
      [](const std::vector<double>& p, const std::vector<double>& q, int32_t n, bool replacement) {
        return optimal_acceptance(p, q, n, replacement);
      },
      "p"_a, "q"_a, "n"_a, "replacement"_a, py::call_guard<py::gil_scoped_release>());
  module.def(
      "read_bandwidth",
      [](int threads, int mib) { return measure_read_bandwidth(threads, int64_t{mib} << 20); },
      "threads"_a, "mib"_a = 256, py::call_guard<py::gil_scoped_release>());
  module.def(
      "kernel_uses",
      [](int threads) {
        std::vector<std::tuple<std::string, int32_t, std::string>> uses;
        for (const KernelUse& use : cpu_kernel_uses(threads)) {
          uses.emplace_back(dtype_info(use.type).name, use.rows, use.kernel);
        }
        return uses;
      },
      "threads"_a, py::call_guard<py::gil_scoped_release>());
  module.def("cuda_info", [] {
    const CudaStatus status = cuda_status();
    return py::dict("available"_a = status.available, "reason"_a = status.text);
  });

  module.def(
      "build_datastore",
      [](const std::string& path, const Tokenizer& tokenizer,
         const std::vector<std::vector<int32_t>>& texts) {
        build_datastore(path, texts, tokenizer.vocab_size(), tokenizer.fingerprint());
      },
      "path"_a, "tokenizer"_a, "texts"_a, py::call_guard<py::gil_scoped_release>());

  py::class_<Tokenizer, std::shared_ptr<Tokenizer>>(module, "Tokenizer")
      .def(py::init([](const std::string& path) {
             return std::const_pointer_cast<Tokenizer>(load_tokenizer(*open_checkpoint(path)));
           }),
           "path"_a)
      .def(
          "encode",
          [](const Tokenizer& t, const std::string& text, bool add_special, bool parse_special) {
            return t.encode(text, {add_special, parse_special});
          },
          "text"_a, "add_special"_a = true, "parse_special"_a = true)
      .def(
          "decode",
          [](const Tokenizer& t, const std::vector<int32_t>& tokens, bool special) {
            return py::bytes(t.decode(tokens, special));
          },
          "tokens"_a, "special"_a = false)
      .def_property_readonly("vocab_size", &Tokenizer::vocab_size)
      .def_property_readonly("fingerprint",
                             [](const Tokenizer& t) {
                               char text[17];
                               std::snprintf(text, sizeof(text), "%016llx",
                                             static_cast<unsigned long long>(t.fingerprint()));
                               return std::string(text);
                             })
      .def_property_readonly("bos", &Tokenizer::bos)
      .def_property_readonly("eos", &Tokenizer::eos)
      .def_property_readonly("end_tokens", &Tokenizer::end_tokens)
      .def_property_readonly("chat_template", &Tokenizer::chat_template);
}
