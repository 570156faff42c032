#include "engine/devices.h"

#include <utility>

#include "backend/profiler.h"
#include "base/affinity.h"
#include "engine/machine.h"
#include "engine/plan.h"

namespace forerun {

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

ModelBackends Devices::of_draft(const Placement& placement, std::span<const LayerGroup> groups,
                                int32_t layers) {
  ModelBackends backends;
  backends.head = (*this)[placement.draft];
  if (placement.draft_beside.empty()) return backends;
  if (groups.empty()) {
    throw Error(ErrorKind::kBadArgument,
                "placement: the draft has several devices, but no layers to share out; say which "
                "may attend side by side (option model.parallel_layers, such as 4)");
  }
  backends.attention.assign(static_cast<size_t>(layers), backends.head);
  const size_t sharing = placement.draft_beside.size() + 1;
  for (const LayerGroup& group : groups) {
    for (int32_t layer = group.first; layer < group.last; ++layer) {
      const size_t turn = static_cast<size_t>(layer - group.first) % sharing;
      if (turn == 0) continue;
      backends.attention[static_cast<size_t>(layer)] = (*this)[placement.draft_beside[turn - 1]];
    }
  }
  return backends;
}

namespace {

Placement dovetail(int32_t layers) {
  if (cuda_status().available) return dovetailed("cpu", "cuda:0", layers, 0);
  if (usable_cores().size() < 2) {
    throw Error(ErrorKind::kUnsupported,
                "placement dovetail: " + cuda_status().text +
                    ", and a single core cannot be shared out; use placement cpu");
  }
  const auto [of_target, of_draft] = two_core_sets();
  return dovetailed(of_target, of_draft, layers, 0);
}

// The best plan for this draft, or with none.
Placement planned(const EngineOptions& options, int32_t layers, const std::string& draft) {
  if (devices_here().size() == 1) return placed_on("cpu", layers);
  PlanRequest request;
  request.target = options.target;
  if (!draft.empty()) request.drafts = {draft};
  request.vram_limit = options.vram_limit;
  request.ram_limit = options.ram_limit;
  request.context = options.context > 0 ? options.context : request.context;
  request.threads = options.threads;
  request.overlap = options.overlap;
  request.cache = options.cache;
  return parse_placement(plan_machine(request).plans.front(), layers, "plan");
}

void check_limits(const EngineOptions& options, const Placement& placement,
                  const MachineProfile& sizes) {
  const int32_t context = options.context > 0 ? options.context : PlanOptions{}.context;
  const auto check = [](const std::string& what, int64_t bytes, int64_t most, const char* option) {
    if (most == 0 || bytes <= most) return;
    throw Error(ErrorKind::kBadArgument, "placement: " + what + " would hold " +
                                             std::to_string(bytes >> 20) + " MiB, " + option +
                                             " is " + std::to_string(most >> 20) + " MiB");
  };
  int64_t host = 0;
  const int32_t draft = sizes.drafts.empty() ? -1 : 0;
  for (const auto& [device, bytes] : memory_of(sizes, placement, draft, context)) {
    if (device.starts_with("cpu")) {
      host += bytes;
    } else {
      check(device, bytes, options.vram_limit, "vram_limit");
    }
  }
  check("the host", host, options.ram_limit, "ram_limit");
}

Placement asked_for(const EngineOptions& options, int32_t layers, const std::string& draft) {
  const std::string& asked = options.placement;
  if (asked.empty()) return placed_on(options.device, layers);
  if (options.device != "cpu") {
    throw Error(ErrorKind::kBadArgument, "device is '" + options.device + "' and placement '" +
                                             asked + "'; give one of them");
  }
  if (asked == "dovetail") return dovetail(layers);
  if (asked == "auto") return planned(options, layers, draft);
  return read_placement(asked, layers);
}

}  // namespace

Placement choose_placement(const EngineOptions& options, const Checkpoint& target,
                           const std::string& draft) {
  const ModelConfig config = read_model_config(target);
  const Placement placement = asked_for(options, config.layers, draft);
  if (options.vram_limit > 0 || options.ram_limit > 0) {
    MachineProfile sizes;
    sizes.target = size_of(target, config);
    if (!draft.empty()) {
      const auto file = open_checkpoint(draft);
      sizes.drafts.push_back({"model", size_of(*file, read_model_config(*file)), {}});
    }
    check_limits(options, placement, sizes);
  }
  return placement;
}

}  // namespace forerun
