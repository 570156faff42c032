#include "engine/plan.h"

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include "bindings/bindings.h"

namespace py = pybind11;
using namespace py::literals;
using namespace forerun;

namespace {

py::dict plan(const std::string& target, std::vector<std::string> drafts, int64_t vram_limit,
              int64_t ram_limit, int32_t context, std::optional<int32_t> threads, bool overlap,
              std::map<std::string, std::string> simulate, double acceptance,
              const std::string& cache, bool measure, const py::object& progress) {
  PlanRequest request;
  request.target = target;
  request.drafts = std::move(drafts);
  request.vram_limit = vram_limit;
  request.ram_limit = ram_limit;
  request.context = context;
  request.threads = threads.value_or(0);
  request.overlap = overlap;
  request.simulate = std::move(simulate);
  request.acceptance = acceptance;
  request.cache = cache;
  request.measure = measure;
  if (!progress.is_none()) {
    request.progress = [&progress](std::string_view what) {
      const py::gil_scoped_acquire gil;
      heed_signals();
      progress(py::str(what.data(), what.size()));
    };
  }
  PlanReport report;
  {
    const py::gil_scoped_release unlocked;
    report = plan_machine(request);
  }
  return py::dict("plans"_a = report.plans, "profile"_a = report.profile,
                  "cache_file"_a = report.cache_file, "measured"_a = report.measured);
}

std::vector<std::string> plan_of_profile(const std::string& profile, int64_t vram_limit,
                                         int64_t ram_limit, int32_t context, bool overlap,
                                         int32_t nodes) {
  PlanRequest request;
  request.vram_limit = vram_limit;
  request.ram_limit = ram_limit;
  request.context = context;
  request.overlap = overlap;
  request.nodes = nodes;
  return plan_profile(profile, request);
}

}  // namespace

void bind_plan(py::module_& module) {
  module.def("plan", &plan, "target"_a, "drafts"_a = std::vector<std::string>(), "vram_limit"_a = 0,
             "ram_limit"_a = 0, "context"_a = 2048, "threads"_a = py::none(), "overlap"_a = true,
             "simulate"_a = std::map<std::string, std::string>(), "acceptance"_a = 0.0,
             "cache"_a = "", "measure"_a = false, "progress"_a = py::none());
  module.def("plan_profile", &plan_of_profile, "profile"_a, "vram_limit"_a = 0, "ram_limit"_a = 0,
             "context"_a = 2048, "overlap"_a = true, "nodes"_a = 0);
}
