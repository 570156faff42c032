#include "sched/placement.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/affinity.h"
#include "base/error.h"
#include "base/parse_count.h"
#include "io/json.h"
#include "sched/cost_model.h"

namespace forerun {
namespace {

using nlohmann::json;

[[noreturn]] void fail(const std::string& what) { throw Error(ErrorKind::kBadArgument, what); }

std::string range_text(const Placement::Range& range) {
  const std::string first = std::to_string(range.first);
  return range.last - range.first == 1 ? first : first + "-" + std::to_string(range.last - 1);
}

Placement::Range parse_range(const std::string& text, const std::string& device,
                             const std::string& source) {
  const size_t dash = text.find('-');
  const int32_t first = parse_count(text.substr(0, dash));
  const int32_t last = dash == std::string::npos ? first : parse_count(text.substr(dash + 1));
  if (first < 0 || last < first) {
    fail(source + ": layers '" + text + "', expected such as 0-21 or 5");
  }
  return {first, last + 1, device_name(device)};
}

std::string member(const json& object, const char* key, const std::string& otherwise,
                   const std::string& source) {
  if (!object.contains(key)) return otherwise;
  if (!object[key].is_string()) fail(source + ": '" + key + "' is not the name of a device");
  return device_name(object[key].get<std::string>());
}

// One device, or a list: the draft's own and those beside it.
void read_draft(const json& object, const std::string& source, Placement& placement) {
  if (!object.contains("draft") || !object["draft"].is_array()) {
    placement.draft = member(object, "draft", placement.head, source);
    return;
  }
  std::vector<std::string> devices;
  for (const json& device : object["draft"]) {
    if (!device.is_string()) fail(source + ": 'draft' lists what is no device's name");
    devices.push_back(device_name(device.get<std::string>()));
  }
  if (devices.empty() ||
      std::set<std::string>(devices.begin(), devices.end()).size() != devices.size()) {
    fail(source + ": 'draft' needs devices that differ");
  }
  placement.draft = devices.front();
  placement.draft_beside.assign(devices.begin() + 1, devices.end());
}

// Of a saved plan.
PlannedTree read_tree(const json& object, const std::string& source) {
  PlannedTree tree;
  const auto count = [&](const char* key) {
    if (!object.contains(key)) return 0;
    const json& value = object[key];
    if (!value.is_number_integer() || value < 0 || value >= CostModel::kMaxRows) {
      fail(source + ": '" + key + "' is no number from 0 to " +
           std::to_string(CostModel::kMaxRows - 1));
    }
    return value.get<int32_t>();
  };
  tree.nodes = count("nodes");
  tree.depth = count("depth");
  if (object.contains("tokens")) {
    if (!object["tokens"].is_number()) fail(source + ": 'tokens' is no number");
    tree.tokens = object["tokens"].get<double>();
  }
  const bool none = tree.nodes == 0 && tree.depth == 0;
  if (none) return {};
  if (tree.depth < 1 || tree.depth > tree.nodes || !(tree.tokens >= 1.0) ||
      tree.tokens > tree.depth + 1) {
    fail(source + ": a tree of " + std::to_string(tree.nodes) + " nodes (nodes), " +
         std::to_string(tree.depth) + " levels (depth) and " + std::to_string(tree.tokens) +
         " tokens a step (tokens) cannot be");
  }
  return tree;
}

// Neighbours on one device become one range.
void join(std::vector<Placement::Range>& ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first, a.last) < std::pair(b.first, b.last);
  });
  std::vector<Placement::Range> joined;
  for (const Placement::Range& range : ranges) {
    const bool goes_on = !joined.empty() && joined.back().last == range.first &&
                         joined.back().device == range.device;
    if (goes_on) {
      joined.back().last = range.last;
    } else {
      joined.push_back(range);
    }
  }
  ranges = std::move(joined);
}

std::vector<int> cores_of(const std::string& device) {
  return device.starts_with("cpu:") ? parse_cores(device.substr(4)) : usable_cores();
}

}  // namespace

bool Placement::draft_is_apart() const {
  const auto is_draft = [this](const Range& range) { return range.device == draft; };
  return head != draft && std::none_of(layers.begin(), layers.end(), is_draft);
}

bool Placement::draft_borrows() const {
  return std::any_of(draft_beside.begin(), draft_beside.end(), [this](const std::string& device) {
    const auto is_there = [&](const Range& range) { return range.device == device; };
    return device == head || std::any_of(layers.begin(), layers.end(), is_there);
  });
}

std::vector<std::string> Placement::devices() const {
  std::vector<std::string> names;
  const auto add = [&names](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  for (const Range& range : layers) add(range.device);
  add(head);
  add(draft);
  for (const std::string& device : draft_beside) add(device);
  return names;
}

std::string Placement::device_of(int32_t layer) const {
  for (const Range& range : layers) {
    if (layer >= range.first && layer < range.last) return range.device;
  }
  fail("layer " + std::to_string(layer) + " has no place");
}

Placement placed_on(const std::string& device, int32_t layers) {
  const std::string name = device_name(device);
  return {{{0, layers, name}}, name, name, {}};
}

Placement dovetailed(const std::string& target, const std::string& draft, int32_t layers,
                     int32_t layers_beside) {
  Placement placement;
  const int32_t border = layers - layers_beside;
  if (border > 0) placement.layers.push_back({0, border, device_name(target)});
  if (border < layers) placement.layers.push_back({border, layers, device_name(draft)});
  placement.draft = device_name(draft);
  placement.head = layers_beside > 0 ? placement.draft : device_name(target);
  return placement;
}

std::string device_name(const std::string& text) {
  if (text == "cpu") return text;
  if (text.starts_with("cpu:")) return "cpu:" + cores_text(parse_cores(text.substr(4)));
  if (text == "cuda") return "cuda:0";
  if (text.starts_with("cuda:") && parse_count(text.substr(5)) >= 0) return text;
  fail("device '" + text + "', expected cpu, cpu:CORES such as cpu:0-3, or cuda:NUMBER");
}

void check_placement(const Placement& placement, int32_t layers) {
  int32_t next = 0;
  for (const Placement::Range& range : placement.layers) {
    if (range.first != next || range.last <= range.first) {
      fail("placement: layers " + range_text(range) + " follow layer " + std::to_string(next - 1) +
           "; every layer needs one place");
    }
    next = range.last;
  }
  if (next != layers) {
    fail("placement: " + std::to_string(next) + " layers are placed, the target has " +
         std::to_string(layers));
  }
  std::set<int> taken;
  for (const std::string& device : placement.devices()) {
    if (device != device_name(device)) fail("placement: device '" + device + "'");
    if (!device.starts_with("cpu")) continue;
    for (const int core : cores_of(device)) {
      if (!taken.insert(core).second) {
        fail("placement: core " + std::to_string(core) +
             " belongs to two devices; give both their own cores, such as cpu:0-2 and cpu:3");
      }
    }
  }
}

std::string placement_text(const Placement& placement) {
  std::string text = "layers ";
  for (const Placement::Range& range : placement.layers) {
    text += range_text(range) + " " + range.device + ", ";
  }
  text += "head " + placement.head + ", draft " + placement.draft;
  for (const std::string& device : placement.draft_beside) text += " and " + device;
  if (placement.tree.nodes == 0) return text;
  return text + ", planned tree " + std::to_string(placement.tree.nodes) + " nodes, " +
         std::to_string(placement.tree.depth) + " deep";
}

Placement parse_placement(const std::string& text, int32_t layers, const std::string& source) {
  json object;
  try {
    object = parse_json(text, source);
  } catch (const Error& error) {
    fail(error.what());
  }
  if (!object.is_object() || !object.contains("layers")) {
    fail(source + ": a placement needs 'layers', such as {\"layers\": {\"0-27\": \"cpu\"}}");
  }
  Placement placement;
  const json& given = object["layers"];
  if (given.is_string()) {
    placement.layers.push_back({0, layers, device_name(given.get<std::string>())});
  } else if (given.is_object()) {
    for (const auto& [range, device] : given.items()) {
      if (!device.is_string()) fail(source + ": layers " + range + " name no device");
      placement.layers.push_back(parse_range(range, device.get<std::string>(), source));
    }
  } else {
    fail(source + ": 'layers' is neither a device nor ranges of layers with their devices");
  }
  join(placement.layers);
  const std::string last = placement.layers.empty() ? "cpu" : placement.layers.back().device;
  placement.head = member(object, "head", last, source);
  read_draft(object, source, placement);
  placement.tree = read_tree(object, source);
  check_placement(placement, layers);
  return placement;
}

std::string placement_json(const Placement& placement) {
  json ranges = json::object();
  for (const Placement::Range& range : placement.layers) ranges[range_text(range)] = range.device;
  json draft = placement.draft;
  if (!placement.draft_beside.empty()) {
    draft = placement.draft_beside;
    draft.insert(draft.begin(), placement.draft);
  }
  json object = {{"layers", ranges}, {"head", placement.head}, {"draft", draft}};
  if (placement.tree.nodes > 0) {
    object["nodes"] = placement.tree.nodes;
    object["depth"] = placement.tree.depth;
    object["tokens"] = placement.tree.tokens;
  }
  return object.dump(1);
}

Placement read_placement(const std::string& text, int32_t layers) {
  if (text.starts_with("{")) return parse_placement(text, layers, "placement");
  if (text.starts_with("cpu") || text == "cuda" || text.starts_with("cuda:")) {
    return placed_on(text, layers);
  }
  std::ifstream file(text, std::ios::binary);
  if (!file) {
    fail("placement is '" + text +
         "', expected auto, dovetail, a device (cpu, cpu:0-3, cuda:0), JSON, or a file that "
         "holds it");
  }
  std::ostringstream content;
  content << file.rdbuf();
  return parse_placement(content.str(), layers, text);
}

}  // namespace forerun
