#include "engine/machine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "base/affinity.h"
#include "base/cpu_features.h"
#include "engine/devices.h"
#include "engine/engine.h"
#include "model/batch.h"

namespace forerun {
namespace {

constexpr int32_t kContext = 64;    // positions before the rows that are timed
constexpr int32_t kMostRows = 64;   // of a forward
constexpr int32_t kRounds = 2;      // the least counts: noise only adds
constexpr int32_t kTryTokens = 48;  // of a text on which drafts are tried
constexpr int32_t kTryNodes = 4;
constexpr const char* kTryText =
    "def fibonacci(n):\n    \"\"\"Returns the first n Fibonacci numbers.\"\"\"\n";

double milliseconds(const std::function<void()>& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

// A model on one device, ready to be timed.
class Timed {
 public:
  Timed(const std::string& path, std::shared_ptr<Backend> backend, int32_t layers)
      : model_(Model::load(open_checkpoint(path), {std::vector<std::shared_ptr<Backend>>(
                                                       static_cast<size_t>(layers), backend),
                                                   backend})),
        workspace_(*model_, kContext, kMostRows),
        cache_(model_->kv_places(), kContext + kMostRows) {
    for (int32_t i = 0; i < layers; ++i) all_.push_back(i);
    cache_.prepare(kContext);
    cache_.commit_rows(kContext);  // times do not depend on what the slots hold
  }

  // Of a chain of so many rows through all layers, or through none but the head.
  double forward_ms(int32_t rows, bool layers) {
    batch_.clear();
    tokens_.assign(static_cast<size_t>(rows), 1);
    batch_.add_causal(cache_, tokens_, rows);
    const std::span<const int32_t> run(all_.data(), layers ? all_.size() : 0);
    return milliseconds([&] {
      model_->forward(batch_, workspace_, {run, nullptr});
      model_->backend().synchronize();
    });
  }
  double least_ms(int32_t rows, bool layers) {
    double least = forward_ms(rows, layers);
    for (int32_t i = 1; i < kRounds; ++i) least = std::min(least, forward_ms(rows, layers));
    return least;
  }
  int32_t layers() const { return static_cast<int32_t>(all_.size()); }

 private:
  std::shared_ptr<const Model> model_;
  Workspace workspace_;
  KvCache cache_;
  Batch batch_;
  std::vector<int32_t> all_, tokens_;
};

void time_target(Timed& target, DeviceProfile& device) {
  for (const int32_t rows : {1, 2, 4, 8, 16, 32}) {
    const double head_ms = target.least_ms(rows, false);
    const double all_ms = target.least_ms(rows, true);
    device.head.set(rows, std::max(head_ms, 1e-6));
    device.layer.set(rows, std::max((all_ms - head_ms) / target.layers(), 1e-6));
  }
}

CostModel time_draft(Timed& draft) {
  CostModel costs;
  for (const int32_t rows : {1, 2, 4, 8}) costs.set(rows, draft.least_ms(rows, true));
  return costs;
}

// Latency from small copies, bandwidth from large ones.
void time_link(Backend& backend, DeviceProfile& device) {
  constexpr int64_t kSmall = 4096, kLarge = int64_t{16} << 20;
  std::vector<std::byte> host(kLarge);
  const Buffer there = backend.allocate(kLarge);
  const auto copy_ms = [&](int64_t bytes) {
    double least = 1e9;
    for (int i = 0; i < 5; ++i) {
      least = std::min(least, milliseconds([&] {
                                backend.upload(there.data(), host.data(), bytes);
                                backend.download(host.data(), there.data(), bytes);
                              }) / 2);
    }
    return least;
  };
  const double small_ms = copy_ms(kSmall), large_ms = copy_ms(kLarge);
  device.link_us = 1000.0 * small_ms;
  device.link_gbs = kLarge / (std::max(large_ms - small_ms, 1e-3) * 1e6);
}

// The factor on the target's time while a draft works on another device.
double slowed_down(Timed& target, Backend& of_target, Timed& draft, Backend& of_draft) {
  constexpr int32_t kRows = 4;
  double alone = 0.0, beside = 0.0;
  std::atomic<bool> enough{false}, running{false};
  std::thread on_target([&] {
    of_target.bind_thread();
    alone = target.least_ms(kRows, true);
    std::thread other([&] {
      of_draft.bind_thread();
      while (!enough) {
        draft.forward_ms(1, true);
        running = true;
      }
    });
    while (!running) std::this_thread::yield();
    beside = target.least_ms(kRows, true);
    enough = true;
    other.join();
  });
  on_target.join();
  return std::max(beside / alone, 1.0);
}

// How often the draft's best guess is right, tried on a text.
Acceptance try_draft(const PlanRequest& request, const std::string& draft) {
  Acceptance acceptance;
  if (request.acceptance > 0.0) {
    acceptance.best = request.acceptance;
    return acceptance;
  }
  EngineOptions options;
  options.target = request.target;
  options.draft = "model:" + draft;
  options.threads = request.threads;
  options.fixed_draft = kTryNodes;
  options.policy = "chain";
  GenerateOptions asked;
  asked.max_tokens = kTryTokens;
  const Stats stats = Engine::load(options)->generate(std::string_view(kTryText), asked).stats;
  double tried = 2.0, right = 1.0;  // of a text that short, the first guesses are no certainty
  for (size_t depth = 0; depth < stats.tried_by_depth.size(); ++depth) {
    const int64_t parents =
        depth == 0 ? stats.tried_by_depth[0] : stats.accepted_by_depth[depth - 1];
    tried += static_cast<double>(std::min(parents, stats.tried_by_depth[depth]));
    right += static_cast<double>(stats.accepted_by_depth[depth]);
  }
  acceptance.best = std::min(right / tried, 0.98);
  return acceptance;
}

bool is_cpu(const std::string& device) { return device.starts_with("cpu"); }

// Layers that fit the limit of a GPU beside head and scratch; at least one.
int32_t layers_to_time(const std::string& device, const ModelSize& size, int64_t limit) {
  if (is_cpu(device)) return size.layers;
  const int64_t room = limit - size.bytes(0, true, 0);
  const int64_t each = size.layer_bytes + size.kv_bytes * (kContext + kMostRows);
  return static_cast<int32_t>(std::clamp<int64_t>(room / each, 1, size.layers));
}

// Cores that two CPU devices share, or one that is the other.
bool share_cores(const std::string& a, const std::string& b) {
  return a == b || (is_cpu(a) && is_cpu(b) && (a == "cpu" || b == "cpu"));
}

}  // namespace

ModelSize size_of(const Checkpoint& checkpoint, const ModelConfig& config) {
  ModelSize size;
  size.layers = config.layers;
  size.width = config.width;
  for (const TensorSource& tensor : checkpoint.tensors()) {
    int64_t elements = 1;
    for (const int64_t side : tensor.shape) elements *= side;
    const auto bytes = static_cast<int64_t>(tensor.bytes.size());
    const bool of_layer =
        tensor.name.starts_with("blk.") || tensor.name.find(".layers.") != std::string::npos;
    const bool embeddings = tensor.name.find("embd") != std::string::npos ||
                            tensor.name.find("embed") != std::string::npos;
    if (of_layer) {
      size.layer_bytes += bytes;
      size.layer_parameters += elements;
    } else if (!embeddings || config.tied_head) {
      size.head_bytes += bytes;
      size.head_parameters += elements;
    }
    if (embeddings && !tensor.shape.empty()) size.vocab = static_cast<int32_t>(tensor.shape[0]);
  }
  size.layer_bytes /= std::max(config.layers, 1);
  size.layer_parameters /= std::max(config.layers, 1);
  const KvLayout one{1, config.kv_heads, config.head_dim, DType::kF16};
  size.kv_bytes = one.page_bytes() / KvLayout::kPageSlots;
  const int64_t row = 5 * int64_t{config.width} + 2 * int64_t{config.ffn_width} +
                      2 * int64_t{config.heads} * config.head_dim;
  size.scratch_bytes = 4 * (256 * row + 128 * int64_t{size.vocab});
  return size;
}

std::pair<std::string, std::string> two_core_sets() {
  const std::vector<int> cores = usable_cores();
  const size_t draft = std::max<size_t>(cores.size() / 4, 1);
  const std::span<const int> all(cores);
  return {"cpu:" + cores_text(all.first(cores.size() - draft)),
          "cpu:" + cores_text(all.last(draft))};
}

std::vector<std::string> devices_here() {
  std::vector<std::string> devices = {"cpu"};
  if (cpu_features().cores > 1 && usable_cores().size() > 1) {
    const auto [target, draft] = two_core_sets();
    devices.push_back(target);
    devices.push_back(draft);
  }
  if (cuda_status().available) devices.push_back("cuda:0");
  return devices;
}

MachineProfile measure_machine(const PlanRequest& request) {
  const auto tell = [&request](const std::string& what) {
    if (request.progress) request.progress(what);
  };
  MachineProfile machine;
  const auto target_file = open_checkpoint(request.target);
  machine.target = size_of(*target_file, read_model_config(*target_file));
  for (const std::string& path : request.drafts) {
    tell("how often " + path + " is right");
    const auto file = open_checkpoint(path);
    machine.drafts.push_back(
        {"model:" + path, size_of(*file, read_model_config(*file)), try_draft(request, path)});
  }
  Devices backends(default_devices(request.threads), nullptr);
  std::vector<std::string> names = devices_here();
  std::erase_if(names, [&](const std::string& name) { return request.simulate.contains(name); });
  std::map<std::string, std::unique_ptr<Timed>> first_drafts;
  for (const std::string& name : names) {
    DeviceProfile device;
    device.device = name;
    const auto backend = backends[name];
    std::thread worker([&] {  // on the device's own cores
      backend->bind_thread();
      for (const DraftProfile& draft : machine.drafts) {
        tell(draft.name.substr(6) + " on " + name);
        auto timed = std::make_unique<Timed>(draft.name.substr(6), backend, draft.size.layers);
        device.draft.push_back(time_draft(*timed));
        if (!first_drafts[name]) first_drafts[name] = std::move(timed);
      }
      time_link(*backend, device);
    });
    worker.join();
    machine.devices.push_back(std::move(device));
  }
  for (DeviceProfile& device : machine.devices) {
    tell(request.target + " on " + device.device);
    const auto backend = backends[device.device];
    std::unique_ptr<Timed> target;
    std::thread worker([&] {
      backend->bind_thread();
      target = std::make_unique<Timed>(
          request.target, backend,
          layers_to_time(device.device, machine.target, request.vram_limit));
      time_target(*target, device);
    });
    worker.join();
    for (const auto& [other, draft] : first_drafts) {
      if (share_cores(device.device, other) || !draft) continue;
      device.beside[other] = slowed_down(*target, *backend, *draft, *backends[other]);
    }
  }
  return machine;
}

std::string profile_key(const PlanRequest& request) {
  const CpuFeatures& cpu = cpu_features();
  std::string key = std::string(version()) + "|" + cpu.model + "|" + cores_text(usable_cores()) +
                    "|" + isa_name(selected_isa()) + "|" + std::to_string(request.threads) + "|" +
                    cuda_status().text + "|" + std::to_string(request.acceptance);
  for (const auto& [device, spec] : request.simulate) key += "|simulated " + device;
  const auto add = [&key](const std::string& path) {
    const auto file = open_checkpoint(path);
    key += "|" + path + " " + std::to_string(file->file_bytes()) + " " +
           std::to_string(file->tensors().size());
  };
  add(request.target);
  for (const std::string& draft : request.drafts) add(draft);
  return key;
}

}  // namespace forerun
