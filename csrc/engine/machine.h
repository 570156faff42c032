#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/plan.h"
#include "io/checkpoint.h"
#include "model/config.h"
#include "sched/planner.h"

namespace forerun {

// What of a file goes to a device, by its tensors' names.
ModelSize size_of(const Checkpoint& checkpoint, const ModelConfig& config);

// Devices that are worth trying here: "cpu", its cores as two sets where there are two or more, and
// the first GPU.
std::vector<std::string> devices_here();
// The two sets: of the target, and of the draft: the last quarter of the cores, at least one.
std::pair<std::string, std::string> two_core_sets();

// Times forwards of target and drafts on every device, copies, and how much two devices slow each
// other down; memory limits are left open. acceptance of the request 0: the drafts are tried on a
// text.
MachineProfile measure_machine(const PlanRequest& request);

// What the measurement depends on, as text: hardware, version, models.
std::string profile_key(const PlanRequest& request);

}  // namespace forerun
