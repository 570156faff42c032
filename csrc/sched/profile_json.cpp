// Profiles and plans as JSON: for the cache, and for people.

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/json.h"
#include "sched/planner.h"

namespace forerun {
namespace {

using nlohmann::json;

json table_of(const CostModel& costs) {
  json table = json::array();
  for (const CostModel::Point& point : costs.points()) table.push_back({point.rows, point.ms});
  return table;
}

CostModel costs_of(const json& table) {
  CostModel costs;
  for (const json& point : table) costs.set(point.at(0).get<int32_t>(), point.at(1).get<double>());
  return costs;
}

json json_of(const ModelSize& size) {
  return {{"layers", size.layers},
          {"width", size.width},
          {"vocab", size.vocab},
          {"layer_bytes", size.layer_bytes},
          {"layer_parameters", size.layer_parameters},
          {"head_bytes", size.head_bytes},
          {"head_parameters", size.head_parameters},
          {"kv_bytes", size.kv_bytes},
          {"scratch_bytes", size.scratch_bytes}};
}

ModelSize size_of(const json& object) {
  ModelSize size;
  object.at("layers").get_to(size.layers);
  object.at("width").get_to(size.width);
  object.at("vocab").get_to(size.vocab);
  object.at("layer_bytes").get_to(size.layer_bytes);
  object.at("layer_parameters").get_to(size.layer_parameters);
  object.at("head_bytes").get_to(size.head_bytes);
  object.at("head_parameters").get_to(size.head_parameters);
  object.at("kv_bytes").get_to(size.kv_bytes);
  object.at("scratch_bytes").get_to(size.scratch_bytes);
  return size;
}

}  // namespace

std::string plan_json(const Plan& plan) {
  json object = json::parse(placement_json(plan.placement));
  object["with"] = plan.draft;  // the drafter; `draft` is its device
  object["nodes"] = plan.nodes;
  object["depth"] = plan.depth;
  object["tokens"] = plan.tokens;
  object["verify_ms"] = plan.verify_ms;
  object["draft_ms"] = plan.draft_ms;
  object["hidden_ms"] = plan.hidden_ms;
  object["ready"] = plan.ready;
  object["step_ms"] = plan.step_ms();
  object["tokens_per_second"] = plan.tokens_per_second();
  object["memory"] = plan.memory;
  object["why"] = plan.why;
  return object.dump(1);
}

std::string profile_json(const MachineProfile& machine) {
  json drafts = json::array(), devices = json::array();
  for (const DraftProfile& draft : machine.drafts) {
    drafts.push_back({{"name", draft.name},
                      {"size", json_of(draft.size)},
                      {"acceptance", {draft.acceptance.best, draft.acceptance.rest}}});
  }
  for (const DeviceProfile& device : machine.devices) {
    json tables = json::array();
    for (const CostModel& costs : device.draft) tables.push_back(table_of(costs));
    devices.push_back({{"device", device.device},
                       {"memory_bytes", device.memory_bytes},
                       {"layer_ms", table_of(device.layer)},
                       {"head_ms", table_of(device.head)},
                       {"draft_ms", tables},
                       {"link_us", device.link_us},
                       {"link_gbs", device.link_gbs},
                       {"beside", device.beside}});
  }
  return json{{"target", json_of(machine.target)}, {"drafts", drafts}, {"devices", devices}}.dump(
      1);
}

MachineProfile parse_profile(const std::string& text, const std::string& source) {
  const json object = parse_json(text, source);
  MachineProfile machine;
  try {
    machine.target = size_of(object.at("target"));
    for (const json& draft : object.at("drafts")) {
      const json& acceptance = draft.at("acceptance");
      machine.drafts.push_back({draft.at("name").get<std::string>(),
                                size_of(draft.at("size")),
                                {acceptance.at(0).get<double>(), acceptance.at(1).get<double>()}});
    }
    for (const json& given : object.at("devices")) {
      DeviceProfile device;
      given.at("device").get_to(device.device);
      given.at("memory_bytes").get_to(device.memory_bytes);
      device.layer = costs_of(given.at("layer_ms"));
      device.head = costs_of(given.at("head_ms"));
      for (const json& table : given.at("draft_ms")) device.draft.push_back(costs_of(table));
      given.at("link_us").get_to(device.link_us);
      given.at("link_gbs").get_to(device.link_gbs);
      given.at("beside").get_to(device.beside);
      if (device.draft.size() != machine.drafts.size()) {
        throw Error(ErrorKind::kBadFile, "device " + device.device + " has times of " +
                                             std::to_string(device.draft.size()) + " drafts, not " +
                                             std::to_string(machine.drafts.size()));
      }
      machine.devices.push_back(std::move(device));
    }
  } catch (const std::exception& error) {
    throw Error(ErrorKind::kBadFile, source + ": not the profile of a machine: " + error.what());
  }
  return machine;
}

}  // namespace forerun
