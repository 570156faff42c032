#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace forerun {

// The draft tree of a plan: with what an engine begins, before it has measured its own.
struct PlannedTree {
  int32_t nodes = 0, depth = 0;  // drafted nodes, levels; 0: nothing is planned
  double tokens = 1.0;           // expected a step
  bool operator==(const PlannedTree&) const = default;
};

// Which device holds which part, as data. Devices by name:
//   cpu        the processor, threads wherever the system puts them
//   cpu:0-3,6  the same, on these cores only; back ends on disjoint cores work side by side
//   cuda:0     an NVIDIA GPU ("cuda" is the first)
// Keys and values lie with their layer. The embedding is a table that is looked up in the mapped
// file, by the host, so it takes no device memory.
struct Placement {
  struct Range {  // layers [first, last)
    int32_t first = 0, last = 0;
    std::string device;
    bool operator==(const Range&) const = default;
  };
  std::vector<Range> layers;  // of the target: ascending, without gaps, one per stretch
  std::string head = "cpu";   // final norm and head of the target
  std::string draft = "cpu";  // draft model, with its keys and values
  // Devices that take turns with `draft` in computing the attention of its layers, and hold their
  // keys and values: for layers that are computed side by side (model/layer_groups.h).
  std::vector<std::string> draft_beside = {};
  PlannedTree tree = {};  // of a saved plan

  bool operator==(const Placement&) const = default;

  // Whether the draft has a device of its own, so that it can run while the target does.
  bool draft_is_apart() const;
  bool draft_borrows() const;                // draft_beside has a device of the target
  std::vector<std::string> devices() const;  // each once: layers, head, draft, draft_beside
  std::string device_of(int32_t layer) const;
};

// All on one device.
Placement placed_on(const std::string& device, int32_t layers);

// The draft on its own device and the target on another, with the last `layers_beside` layers and
// the head beside the draft (Dovetail, arXiv 2412.18934; the last ones, so that hidden states and
// logits come to be where the draft is).
Placement dovetailed(const std::string& target, const std::string& draft, int32_t layers,
                     int32_t layers_beside);

// "cuda" -> "cuda:0", "cpu:3-3" -> "cpu:3". Error(kBadArgument) for a name of another form; whether
// there is such a device is not looked up.
std::string device_name(const std::string& text);

// Error(kBadArgument) unless all layers of a target of `layers` layers are placed once, by devices
// that exist in name, and CPU devices are the same or share no core.
void check_placement(const Placement& placement, int32_t layers);

// One line for people: "layers 0-27 cpu, head cpu, draft cuda:0".
std::string placement_text(const Placement& placement);

// JSON: {"layers": {"0-21": "cpu", "22-27": "cuda:0"}, "head": "cuda:0", "draft": "cuda:0"};
// "layers" may also be the name of one device, `head` is where the last layer is unless it is
// given, `draft` where the head is; ["cuda:0", "cuda:1"] is `draft` and draft_beside. "nodes",
// "depth" and "tokens" of a saved plan are its tree. Other members belong to a saved plan and are
// left alone. `source` names the text in errors: Error(kBadArgument).
Placement parse_placement(const std::string& json, int32_t layers, const std::string& source);
std::string placement_json(const Placement& placement);

// What `placement` of an engine's options says: "cpu", "cuda", a device's name; JSON; or the path
// of a file with it. "dovetail" and "auto" are not resolved here.
Placement read_placement(const std::string& text, int32_t layers);

}  // namespace forerun
