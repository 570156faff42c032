#include "engine/devices.h"

#include <algorithm>

#include "backend/profiler.h"
#include "base/affinity.h"

namespace forerun {
namespace {

Placement dovetail(int32_t layers) {
  if (cuda_status().available) return dovetailed("cpu", "cuda:0", layers, 0);
  const std::vector<int> cores = usable_cores();
  if (cores.size() < 2) {
    throw Error(ErrorKind::kUnsupported,
                "placement dovetail: " + cuda_status().text +
                    ", and a single core cannot be shared out; use placement cpu");
  }
  const auto border =
      static_cast<std::ptrdiff_t>(cores.size() - std::max<size_t>(cores.size() / 4, 1));
  const std::vector<int> of_target(cores.begin(), cores.begin() + border);
  const std::vector<int> of_draft(cores.begin() + border, cores.end());
  return dovetailed("cpu:" + cores_text(of_target), "cpu:" + cores_text(of_draft), layers, 0);
}

}  // namespace

DeviceMaker default_devices(int threads) {
  return [threads](const std::string& device) {
    if (device.starts_with("cuda:")) return make_cuda_backend(std::stoi(device.substr(5)));
    if (device.starts_with("cpu:")) return make_cpu_backend(0, device.substr(4));
    return make_cpu_backend(threads);
  };
}

std::shared_ptr<Backend> Devices::operator[](const std::string& device) {
  std::shared_ptr<Backend>& backend = made_[device];
  if (!backend) {
    auto made = make_(device);
    if (recorder_) made = make_profiling_backend(std::move(made), recorder_);
    backend = std::move(made);
  }
  return backend;
}

ModelBackends Devices::of_target(const Placement& placement) {
  ModelBackends backends;
  for (const Placement::Range& range : placement.layers) {
    for (int32_t layer = range.first; layer < range.last; ++layer) {
      backends.layers.push_back((*this)[range.device]);
    }
  }
  backends.head = (*this)[placement.head];
  return backends;
}

Placement choose_placement(const EngineOptions& options, const ModelConfig& target) {
  const std::string& asked = options.placement;
  if (asked.empty()) return placed_on(options.device, target.layers);
  if (options.device != "cpu") {
    throw Error(ErrorKind::kBadArgument, "device is '" + options.device + "' and placement '" +
                                             asked + "'; give one of them");
  }
  if (asked == "dovetail") return dovetail(target.layers);
  return read_placement(asked, target.layers);
}

}  // namespace forerun
