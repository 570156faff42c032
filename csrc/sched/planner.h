#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "backend/simulated.h"
#include "sched/cost_model.h"
#include "sched/expected_tree.h"
#include "sched/placement.h"

namespace forerun {

// What a model takes on a device, in bytes and in parameters (a multiplication and an addition each
// per row).
struct ModelSize {
  int32_t layers = 0, width = 0, vocab = 0;
  int64_t layer_bytes = 0, layer_parameters = 0;  // of one layer
  int64_t head_bytes = 0, head_parameters = 0;
  int64_t kv_bytes = 0;  // of one position in one layer
  int64_t scratch_bytes = 0;

  int64_t bytes(int32_t of_layers, bool head, int32_t context) const;
};

// A device as it was measured, or as it is imagined. CostModels are tables of milliseconds by rows.
struct DeviceProfile {
  std::string device;
  int64_t memory_bytes = 0;      // that may be used
  CostModel layer, head;         // of the target: one layer; final norm and head
  std::vector<CostModel> draft;  // [drafts] a forward of a draft
  double link_us = 0.0;          // of a copy between it and the host
  double link_gbs = 1e9;
  std::map<std::string, double> beside;  // factor on its time while that device works too

  double copy_ms(int64_t bytes) const {
    return link_us * 1e-3 + static_cast<double>(bytes) / (link_gbs * 1e6);
  }
};

struct DraftProfile {
  std::string name;  // as EngineOptions::draft takes it
  ModelSize size;
  Acceptance acceptance;
};

struct MachineProfile {
  ModelSize target;
  std::vector<DraftProfile> drafts;
  std::vector<DeviceProfile> devices;
};

// Tables of an imagined device: the roofline of its specification over the models' sizes.
DeviceProfile imagined(const DeviceSpec& spec, const ModelSize& target,
                       const std::vector<DraftProfile>& drafts);

struct PlanOptions {
  int32_t context = 2048;
  bool overlap = true;
  int32_t nodes = 0;  // drafted a step; 0: chosen
  int32_t max_nodes = 64, max_depth = 12;
};

// What a step is expected to take and to bring.
struct Plan {
  Placement placement;
  std::string draft = "none";
  int32_t nodes = 0, depth = 0;            // drafted nodes, levels
  double tokens = 1.0;                     // emitted a step
  double verify_ms = 0.0, draft_ms = 0.0;  // draft_ms: what the step waits for
  double hidden_ms = 0.0;                  // of drafting, while the target verifies
  double ready = 0.0;                      // share of steps whose tree is ready
  std::map<std::string, int64_t> memory;   // by device
  std::string why;

  double step_ms() const { return verify_ms + draft_ms; }
  double tokens_per_second() const { return 1000.0 * tokens / step_ms(); }
};

// The step of one placement with one tree. draft: index into machine.drafts, -1 for none.
// Error(kBadArgument) for a device that the machine lacks.
Plan predict(const MachineProfile& machine, const Placement& placement, int32_t draft,
             const ExpectedTree& tree, const PlanOptions& options);

// Bytes by device: weights, keys and values of `context` positions, scratch. draft as in predict().
std::map<std::string, int64_t> memory_of(const MachineProfile& machine, const Placement& placement,
                                         int32_t draft, int32_t context);

// Chooses layers, draft, nodes and depth together by trying all: every pair of devices, every
// number of last or first layers on the second, every draft on either device and none, every tree.
// Those that do not fit the devices' memory are left out; the best of every kind of placement is
// returned, best first. Error(kOutOfMemory) saying what is missing when nothing fits.
std::vector<Plan> make_plans(const MachineProfile& machine, const PlanOptions& options);

// A placement (sched/placement.h) with what is expected of it, as JSON.
std::string plan_json(const Plan& plan);

// The profile as JSON, for a cache. Error(kBadFile) naming `source` for what is not one.
std::string profile_json(const MachineProfile& machine);
MachineProfile parse_profile(const std::string& json, const std::string& source);

}  // namespace forerun
