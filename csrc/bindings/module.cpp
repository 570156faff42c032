// The Python module forerun._core: converts, releases the GIL, calls, translates errors. No logic.

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>

#include <cstring>

#include "base/error.h"
#include "bindings/bindings.h"
#include "engine/engine.h"

namespace py = pybind11;

namespace {

void translate(const forerun::Error& error) {
  static const auto set = [](PyObject* type, const char* text) {  // a path may be any bytes
    const auto length = static_cast<Py_ssize_t>(std::strlen(text));
    const auto str =
        py::reinterpret_steal<py::object>(PyUnicode_DecodeUTF8(text, length, "backslashreplace"));
    PyErr_SetObject(type, str.ptr());
  };
  switch (error.kind()) {
    case forerun::ErrorKind::kBadArgument:
      return set(PyExc_ValueError, error.what());
    case forerun::ErrorKind::kBadFile:
      return set(py::module_::import("forerun._core").attr("ModelFileError").ptr(), error.what());
    case forerun::ErrorKind::kUnsupported:
      return set(PyExc_NotImplementedError, error.what());
    case forerun::ErrorKind::kOutOfMemory:
      return set(PyExc_MemoryError, error.what());
    case forerun::ErrorKind::kDevice:
      return set(PyExc_RuntimeError, error.what());
    case forerun::ErrorKind::kCancelled:
      return set(PyExc_KeyboardInterrupt, error.what());
    case forerun::ErrorKind::kBusy:
      return set(py::module_::import("forerun._core").attr("QueueFullError").ptr(), error.what());
  }
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() = "Native core of forerun.";
  py::exception<forerun::Error>(module, "ModelFileError", PyExc_Exception);
  py::exception<forerun::Error>(module, "QueueFullError", PyExc_RuntimeError);
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const forerun::Error& error) {
      translate(error);
    }
  });
  module.attr("__version__") = forerun::version();
  bind_engine(module);
  bind_plan(module);
  bind_tools(module);
}
