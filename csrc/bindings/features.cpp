#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "bindings/convert.h"

namespace py = pybind11;
using namespace py::literals;
using namespace forerun;

namespace {

// An array that owns the vector it shows.
template <typename T>
py::array array_of(py::dtype dtype, std::vector<T> values, int64_t rows, int64_t cols) {
  auto* kept = new std::vector<T>(std::move(values));
  const py::capsule owner(kept, [](void* data) { delete static_cast<std::vector<T>*>(data); });
  return py::array(std::move(dtype), {rows, cols}, kept->data(), owner);
}

py::tuple features(Engine& engine, const std::vector<int32_t>& tokens,
                   const std::vector<int32_t>& taps, int32_t top_k, int32_t first_law) {
  Features f;
  {
    const py::gil_scoped_release unlocked;
    f = engine.features(tokens, taps, top_k, first_law, &heed_signals);
  }
  return to_tuple(std::move(f));
}

}  // namespace

py::tuple to_tuple(Features f) {
  return py::make_tuple(array_of(py::dtype("float16"), std::move(f.states), f.tokens, f.width),
                        array_of(py::dtype("int32"), std::move(f.ids), f.laws(), f.top_k),
                        array_of(py::dtype("float32"), std::move(f.logprobs), f.laws(), f.top_k));
}

void bind_features(EngineClass& engine) {
  engine.def("features", &features, "tokens"_a, "taps"_a = std::vector<int32_t>{-1}, "top_k"_a = 0,
             "first_law"_a = 0);
}
