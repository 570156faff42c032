// Requests of Engine::submit. Nothing here is called by the engine's worker, so it never waits for
// the GIL.

#include "engine/request.h"

#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "bindings/convert.h"

namespace py = pybind11;
using namespace py::literals;
using namespace forerun;

namespace {

constexpr double kBetweenSignals = 0.1;

Request submit(Engine& engine, const std::variant<std::string, std::vector<int32_t>>& prompt,
               int32_t max_tokens, const py::dict& sampling, std::vector<std::string> stop,
               uint64_t seed, std::optional<int32_t> logprobs, int32_t priority, bool wait,
               std::string tenant) {
  RequestOptions options;
  options.max_tokens = max_tokens;
  options.sampling = to_sampling(sampling);
  options.stop = std::move(stop);
  options.seed = seed;
  options.logprobs = logprobs.value_or(-1);
  options.priority = priority;
  options.wait_for_place = wait;
  options.tenant = std::move(tenant);
  const py::gil_scoped_release unlocked;
  if (const auto* text = std::get_if<std::string>(&prompt)) return engine.submit(*text, options);
  return engine.submit(std::span<const int32_t>(std::get<std::vector<int32_t>>(prompt)), options);
}

// The next text, None at the end. Ctrl-C is heard while it waits.
std::optional<std::string> next(Request& request) {
  for (;;) {
    {
      const py::gil_scoped_release unlocked;
      if (request.wait_for_text(kBetweenSignals)) return request.next();
    }
    heed_signals();
  }
}

}  // namespace

void bind_request(py::module_& module, EngineClass& engine) {
  const auto unlocked = py::call_guard<py::gil_scoped_release>();
  py::class_<Request>(module, "Request")
      .def("next", &next)
      .def("wait_for_end", &Request::wait_for_end, "seconds"_a, unlocked)
      .def("ended", &Request::ended)
      .def("cancel", &Request::cancel)
      .def(
          "wait",
          [](Request& request, bool logprobs) {
            const Completion* completion;
            {
              const py::gil_scoped_release release;
              completion = &request.wait();
            }
            return to_dict(*completion, logprobs);
          },
          "logprobs"_a = false);
  engine.def("submit", &submit, "prompt"_a, "max_tokens"_a = 256, "sampling"_a = py::dict(),
             "stop"_a = std::vector<std::string>(), "seed"_a = 0, "logprobs"_a = py::none(),
             "priority"_a = 0, "wait"_a = false, "tenant"_a = "");
}
