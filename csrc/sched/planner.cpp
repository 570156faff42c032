#include "sched/planner.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include "base/error.h"

namespace forerun {
namespace {

constexpr int32_t kAheadLeaves = 3;       // below so many leaves a draft goes on (draft/ahead.h)
constexpr int32_t kLayerOperations = 13;  // launches of a layer, of a head
constexpr int32_t kHeadOperations = 3;
constexpr int32_t kWidth = 8;  // children of a node

const DeviceProfile& device_of(const MachineProfile& machine, const std::string& name) {
  for (const DeviceProfile& device : machine.devices) {
    if (device.device == name) return device;
  }
  throw Error(ErrorKind::kBadArgument, "the machine's profile has no device '" + name + "'");
}

bool is_cpu(const std::string& device) { return device.starts_with("cpu"); }

// The target's forward of n rows: layers, head, and what crosses between devices.
double verify_ms(const MachineProfile& machine, const Placement& placement, int32_t rows) {
  const ModelSize& target = machine.target;
  double ms = 0.0;
  std::string at = placement.layers.empty() ? placement.head : placement.layers.front().device;
  const auto cross = [&](const std::string& to) {
    if (to == at) return;
    const int64_t bytes = int64_t{rows} * target.width * 4;
    ms += device_of(machine, at).copy_ms(bytes) + device_of(machine, to).copy_ms(bytes);
    at = to;
  };
  ms += device_of(machine, at).copy_ms(int64_t{rows} * target.width * 4);  // embeddings
  for (const Placement::Range& range : placement.layers) {
    cross(range.device);
    ms += (range.last - range.first) * device_of(machine, range.device).layer.verify_ms(rows);
  }
  cross(placement.head);
  const DeviceProfile& head = device_of(machine, placement.head);
  return ms + head.head.verify_ms(rows) + head.copy_ms(int64_t{rows} * target.vocab * 4);
}

// What is missing, "" when all fits. Devices of the CPU share the host's memory.
std::string missing(const MachineProfile& machine, const std::map<std::string, int64_t>& memory) {
  int64_t host = 0, host_has = 0;
  const auto mib = [](int64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; };
  for (const auto& [name, bytes] : memory) {
    const DeviceProfile& device = device_of(machine, name);
    if (is_cpu(name)) {
      host += bytes;
      host_has = std::max(host_has, device.memory_bytes);
    } else if (bytes > device.memory_bytes) {
      return name + " would need " + mib(bytes) + " and may use " + mib(device.memory_bytes);
    }
  }
  if (host > host_has) return "the host would need " + mib(host) + " and may use " + mib(host_has);
  return "";
}

std::string kind_of(const Plan& plan) {
  const bool split = plan.placement.layers.size() > 1;
  std::string kind = plan.draft == "none"              ? "plain"
                     : plan.placement.draft_is_apart() ? "apart"
                                                       : "draft";
  kind += split ? " split" : "";
  for (const std::string& device : plan.placement.devices()) {
    if (plan.draft != "none" || device != plan.placement.draft || plan.placement.head == device) {
      kind += " " + device;
    }
  }
  return kind;
}

std::string decimal(double value, int digits) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

std::string reason(const Plan& plan, const Plan& plainest) {
  if (plan.draft == "none") return "a token a step of " + decimal(plan.step_ms(), 1) + " ms";
  std::string text = decimal(plan.tokens, 2) + " tokens a step of " + decimal(plan.step_ms(), 1) +
                     " ms, " + decimal(plan.draft_ms, 1) + " of them waiting for the draft";
  if (plan.ready > 0.0) {
    text += " (ready in " + decimal(100.0 * plan.ready, 0) + " % of the steps)";
  }
  return text + "; " + decimal(plan.tokens_per_second() / plainest.tokens_per_second(), 2) +
         " times plain decoding";
}

// The trees that are tried, made once.
std::vector<ExpectedTree> trees_for(const Acceptance& acceptance, const PlanOptions& options) {
  std::vector<ExpectedTree> trees;
  std::set<std::pair<int32_t, int32_t>> seen;
  const int32_t first = options.nodes > 0 ? options.nodes : 1;
  const int32_t last = options.nodes > 0 ? options.nodes : options.max_nodes;
  for (int32_t nodes = first; nodes <= last; nodes += std::max(1, nodes / 8)) {
    for (int32_t depth = 1; depth <= std::min(nodes, options.max_depth); ++depth) {
      ExpectedTree tree = expected_tree(acceptance, nodes, depth, kWidth);
      if (options.nodes > 0 && tree.nodes != options.nodes) continue;  // too flat for so many
      if (seen.insert({tree.nodes, tree.depth}).second) trees.push_back(std::move(tree));
    }
  }
  return trees;
}

// All on one device, and for two devices every stretch of last and of first layers on the second.
std::vector<Placement> placements_of(const MachineProfile& machine) {
  std::vector<Placement> all;
  const int32_t layers = machine.target.layers;
  for (const DeviceProfile& one : machine.devices) {
    for (const DeviceProfile& two : machine.devices) {
      Placement placement = placed_on(one.device, layers);
      placement.draft = two.device;
      all.push_back(placement);
      if (one.device == two.device || is_cpu(two.device)) continue;
      for (int32_t beside = 1; beside < layers; ++beside) {
        for (const DeviceProfile* draft : {&one, &two}) {
          Placement last = dovetailed(one.device, two.device, layers, beside);
          last.draft = draft->device;
          all.push_back(last);
          Placement first{{{0, beside, two.device}, {beside, layers, one.device}},
                          one.device,
                          draft->device,
                          {}};
          all.push_back(first);
        }
      }
    }
  }
  std::erase_if(all, [layers](const Placement& placement) {
    try {
      check_placement(placement, layers);
      return false;
    } catch (const Error&) {
      return true;  // two CPU devices that share cores
    }
  });
  return all;
}

}  // namespace

std::map<std::string, int64_t> memory_of(const MachineProfile& machine, const Placement& placement,
                                         int32_t draft, int32_t context) {
  std::map<std::string, int64_t> memory;
  std::map<std::string, int32_t> layers;
  for (const Placement::Range& range : placement.layers) {
    layers[range.device] += range.last - range.first;
  }
  layers[placement.head];
  for (const auto& [device, count] : layers) {
    memory[device] += machine.target.bytes(count, device == placement.head, context);
  }
  if (draft >= 0) {
    const ModelSize& size = machine.drafts[static_cast<size_t>(draft)].size;
    memory[placement.draft] += size.bytes(size.layers, true, context);
    const auto sharing = static_cast<int32_t>(placement.draft_beside.size()) + 1;
    for (const std::string& device : placement.draft_beside) {  // at most: feed-forward stays
      memory[device] += size.bytes((size.layers + sharing - 1) / sharing, false, context);
    }
  }
  return memory;
}

int64_t ModelSize::bytes(int32_t of_layers, bool head, int32_t context) const {
  const int64_t kv = int64_t{of_layers} * kv_bytes * context;
  return of_layers * layer_bytes + (head ? head_bytes : 0) + kv + scratch_bytes;
}

DeviceProfile imagined(const DeviceSpec& spec, const ModelSize& target,
                       const std::vector<DraftProfile>& drafts) {
  DeviceProfile device;
  device.device = spec.name;
  device.memory_bytes = spec.memory_bytes;
  device.link_us = spec.link_us;
  device.link_gbs = spec.link_gbs;
  device.draft.resize(drafts.size());
  const auto ms = [&spec](int64_t bytes, int64_t parameters, int32_t rows, int32_t launches) {
    return spec.operation_ms(bytes, 2 * parameters * rows) +
           (launches - 1) * spec.operation_us * 1e-3;
  };
  for (const int32_t rows : {1, 2, 4, 8, 16, 32, 64, 128}) {
    const auto layer = [&](const ModelSize& size) {
      return ms(size.layer_bytes, size.layer_parameters, rows, kLayerOperations);
    };
    const auto head = [&](const ModelSize& size) {
      return ms(size.head_bytes, size.head_parameters, rows, kHeadOperations);
    };
    device.layer.set(rows, layer(target));
    device.head.set(rows, head(target));
    for (size_t i = 0; i < drafts.size(); ++i) {
      const ModelSize& size = drafts[i].size;
      device.draft[i].set(rows, size.layers * layer(size) + head(size));
    }
  }
  return device;
}

Plan predict(const MachineProfile& machine, const Placement& placement, int32_t draft,
             const ExpectedTree& tree, const PlanOptions& options) {
  Plan plan;
  plan.placement = placement;
  plan.memory = memory_of(machine, placement, draft, options.context);
  const bool drafts = draft >= 0 && tree.nodes > 0;
  plan.verify_ms = verify_ms(machine, placement, 1 + (drafts ? tree.nodes : 0));
  if (!drafts) return plan;
  const DraftProfile& profile = machine.drafts[static_cast<size_t>(draft)];
  const DeviceProfile& device = device_of(machine, placement.draft);
  plan.draft = profile.name;
  plan.nodes = tree.nodes;
  plan.depth = tree.depth;
  plan.tokens = tree.tokens;
  const int32_t beam = std::max(1, (tree.nodes + tree.depth / 2) / tree.depth);
  const double level_ms = device.draft[static_cast<size_t>(draft)].verify_ms(beam) +
                          device.copy_ms(int64_t{beam} * profile.size.width * 4) +
                          device.copy_ms(int64_t{beam} * 512);  // embeddings down, guesses up
  plan.draft_ms = tree.depth * level_ms;
  if (!options.overlap || !placement.draft_is_apart()) return plan;

  const auto slower = device_of(machine, placement.head).beside.find(placement.draft);
  const bool shared = slower != device_of(machine, placement.head).beside.end();
  const double branch_ms = (tree.depth + 1) * level_ms;
  const auto whole = static_cast<int32_t>(plan.verify_ms / branch_ms);
  const int32_t branches =
      std::min({whole, kAheadLeaves, static_cast<int32_t>(tree.leaf_ends.size())});
  for (int32_t i = 0; i < branches; ++i) plan.ready += tree.leaf_ends[static_cast<size_t>(i)];
  plan.ready *= profile.acceptance.among(4);  // guesses at the bonus that have a subtree
  plan.hidden_ms = plan.ready * plan.draft_ms;
  const double busy = std::min(1.0, kAheadLeaves * branch_ms / plan.verify_ms);
  Plan apart = plan;
  apart.draft_ms -= apart.hidden_ms;
  if (shared) apart.verify_ms *= 1.0 + (slower->second - 1.0) * busy;
  return apart;
}

std::vector<Plan> make_plans(const MachineProfile& machine, const PlanOptions& options) {
  std::map<std::string, Plan> best;
  std::string lacking;
  std::vector<std::vector<ExpectedTree>> trees;
  for (const DraftProfile& draft : machine.drafts) {
    trees.push_back(trees_for(draft.acceptance, options));
  }
  const auto offer = [&](Plan plan) {
    if (std::string what = missing(machine, plan.memory); !what.empty()) {
      if (lacking.empty()) lacking = std::move(what);
      return;
    }
    const auto [at, first] = best.emplace(kind_of(plan), plan);
    if (!first && plan.tokens_per_second() > at->second.tokens_per_second()) at->second = plan;
  };
  for (const Placement& placement : placements_of(machine)) {
    Placement plain = placement;
    plain.draft = plain.head;
    offer(predict(machine, plain, -1, {}, options));
    for (size_t draft = 0; draft < machine.drafts.size(); ++draft) {
      for (const ExpectedTree& tree : trees[draft]) {
        offer(predict(machine, placement, static_cast<int32_t>(draft), tree, options));
      }
    }
  }
  if (best.empty()) {
    throw Error(ErrorKind::kOutOfMemory,
                "no placement fits: " + lacking + "; raise the limits or shorten `context`");
  }
  std::vector<Plan> plans;
  for (auto& [kind, plan] : best) plans.push_back(std::move(plan));
  std::stable_sort(plans.begin(), plans.end(), [](const Plan& a, const Plan& b) {
    return a.tokens_per_second() > b.tokens_per_second();
  });
  const auto plainest = std::find_if(plans.begin(), plans.end(),
                                     [](const Plan& plan) { return plan.draft == "none"; });
  const Plan yardstick = *plainest;  // the fastest without a draft; what holds a draft holds it too
  for (Plan& plan : plans) plan.why = reason(plan, yardstick);
  return plans;
}

}  // namespace forerun
