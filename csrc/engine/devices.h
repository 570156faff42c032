#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "backend/backend.h"
#include "base/trace.h"
#include "engine/options.h"
#include "model/config.h"
#include "model/model.h"
#include "sched/placement.h"

namespace forerun {

// Makes the back end of a device's name (sched/placement.h); tests put simulated ones in its place.
using DeviceMaker = std::function<std::unique_ptr<Backend>(const std::string& device)>;
DeviceMaker default_devices(int threads);  // threads: of "cpu", 0 = the usable cores

// The back ends of an engine, each made once, when it is first asked for.
class Devices {
 public:
  // recorder: what they record into, or null.
  Devices(DeviceMaker make, std::shared_ptr<TraceRecorder> recorder)
      : make_(std::move(make)), recorder_(std::move(recorder)) {}

  std::shared_ptr<Backend> operator[](const std::string& device);
  ModelBackends of_target(const Placement& placement);
  // A draft model of so many layers; those of one group attend on one device after the other.
  ModelBackends of_draft(const Placement& placement, std::span<const LayerGroup> groups,
                         int32_t layers);

 private:
  DeviceMaker make_;
  std::shared_ptr<TraceRecorder> recorder_;
  std::map<std::string, std::shared_ptr<Backend>> made_;
};

// What the options ask for: `placement`, or where that is empty, `device`. "dovetail" puts the
// draft on the first GPU, on a machine without one on a set of cores (two_core_sets). draft: the
// draft model's file, "" for none. Error(kBadArgument) for what cannot be or takes more than the
// limits, Error(kUnsupported) for "dovetail" on a single core.
Placement choose_placement(const EngineOptions& options, const Checkpoint& target,
                           const std::string& draft);

}  // namespace forerun
