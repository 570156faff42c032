// The CUDA back end is a library of its own, so that this one loads where there is no NVIDIA
// driver. Looked for beside this library first, then on the loader's path. Its C entry points:
//   int forerun_cuda_status(char* text, size_t size)                         1 when a device can be
//   used; why not Backend* forerun_cuda_make_backend(int device, char* error, size_t size)  nullptr
//   and the reason
#include <dlfcn.h>

#include <cstddef>
#include <string>

#include "backend/backend.h"
#include "base/error.h"

namespace forerun {
namespace {

constexpr const char* kLibrary = "libforerun_cuda.so";

struct CudaLibrary {
  int (*status)(char* text, size_t size) = nullptr;
  Backend* (*make_backend)(int device, char* error, size_t size) = nullptr;
  std::string problem;
};

std::string beside_this_library() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&cuda_status), &info) == 0 || info.dli_fname == nullptr)
    return {};
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash + 1) + kLibrary;
}

// The library stays loaded until the process ends: its back ends may outlive any scope here.
CudaLibrary open_library() {
  CudaLibrary library;
  void* handle = nullptr;
  const std::string near = beside_this_library();
  if (!near.empty()) handle = dlopen(near.c_str(), RTLD_NOW | RTLD_LOCAL);
  std::string reason;
  if (handle == nullptr) {
    const char* text = dlerror();
    if (text != nullptr) reason = text;
    handle = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  }
  if (handle == nullptr) {
    const char* text = dlerror();
    if (text != nullptr && reason.find("No such file") != std::string::npos) reason = text;
    const bool absent = reason.empty() || reason.find("No such file") != std::string::npos;
    library.problem =
        absent ? std::string(kLibrary) + " not found; build with FORERUN_CUDA=ON (docs/gpu.md)"
               : reason;
    return library;
  }
  library.status = reinterpret_cast<decltype(library.status)>(dlsym(handle, "forerun_cuda_status"));
  library.make_backend =
      reinterpret_cast<decltype(library.make_backend)>(dlsym(handle, "forerun_cuda_make_backend"));
  if (library.status == nullptr || library.make_backend == nullptr) {
    library.problem =
        std::string(kLibrary) + " is of another version: its entry points are missing";
  }
  return library;
}

const CudaLibrary& cuda_library() {
  static const CudaLibrary library = open_library();
  return library;
}

}  // namespace

CudaStatus cuda_status() {
  const CudaLibrary& library = cuda_library();
  if (!library.problem.empty()) return {false, library.problem};
  char text[512] = {};
  const bool available = library.status(text, sizeof(text)) == 1;
  return {available, text};
}

std::unique_ptr<Backend> make_cuda_backend(int device) {
  const CudaLibrary& library = cuda_library();
  std::string problem = library.problem;
  if (problem.empty()) {
    char text[512] = {};
    std::unique_ptr<Backend> backend(library.make_backend(device, text, sizeof(text)));
    if (backend != nullptr) return backend;
    problem = text;
  }
  throw Error(ErrorKind::kUnsupported, "cuda:" + std::to_string(device) + ": " + problem);
}

}  // namespace forerun
