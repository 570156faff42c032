#include "engine/plan.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/hash.h"
#include "engine/machine.h"

namespace forerun {
namespace {

namespace fs = std::filesystem;

int64_t host_memory() {
  const int64_t pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? pages * size / 10 * 9 : int64_t{8} << 30;
}

std::string file_in(const std::string& folder, const std::string& key) {
  if (folder.empty()) return "";
  char name[32];
  std::snprintf(name, sizeof(name), "%016llx.json",
                static_cast<unsigned long long>(hash_bytes(key)));
  return (fs::path(folder) / name).string();
}

// "" when there is no such file.
std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  if (file) content << file.rdbuf();
  return content.str();
}

// A whole file or none: another process may read it meanwhile.
void write_whole(const std::string& path, const std::string& content) {
  std::error_code failed;
  fs::create_directories(fs::path(path).parent_path(), failed);
  const std::string beside = path + "." + std::to_string(getpid());
  std::ofstream(beside, std::ios::binary) << content;
  fs::rename(beside, path, failed);
  if (failed) {
    throw Error(ErrorKind::kBadArgument,
                "the profile cannot be kept in " + path + ": " + failed.message());
  }
}

void add_imagined(const PlanRequest& request, MachineProfile& machine) {
  for (const auto& [device, text] : request.simulate) {
    machine.devices.push_back(
        imagined(parse_device_spec(device_name(device), text), machine.target, machine.drafts));
  }
}

void limit_memory(const PlanRequest& request, MachineProfile& machine) {
  for (DeviceProfile& device : machine.devices) {
    if (device.device.starts_with("cpu")) {
      if (request.ram_limit > 0) device.memory_bytes = request.ram_limit;
      if (device.memory_bytes == 0) device.memory_bytes = host_memory();
    } else if (request.vram_limit > 0) {
      device.memory_bytes = request.vram_limit;
    }
  }
}

[[noreturn]] void fail(const std::string& what) { throw Error(ErrorKind::kBadArgument, what); }

// What plans are made by, whether of a profile or of this machine.
void check_wishes(const PlanRequest& request) {
  if (request.context < 1)
    fail("context is " + std::to_string(request.context) + ", expected >= 1");
  if (request.nodes < 0 || request.nodes > CostModel::kMaxRows - 1) {
    fail("nodes is " + std::to_string(request.nodes) + ", expected 0 (any) to " +
         std::to_string(CostModel::kMaxRows - 1));
  }
  if (request.vram_limit < 0) fail("vram_limit is negative");
  if (request.ram_limit < 0) fail("ram_limit is negative");
}

void check(const PlanRequest& request) {
  if (request.target.empty()) fail("no target model was given");
  check_wishes(request);
  if (!(request.acceptance >= 0.0 && request.acceptance < 1.0)) {
    fail("acceptance is " + std::to_string(request.acceptance) +
         ", expected 0 (measured) to 1, 1 not included");
  }
  for (const auto& [device, text] : request.simulate) parse_device_spec(device_name(device), text);
  const std::vector<std::string> here = devices_here();
  const bool has_gpu = std::find(here.begin(), here.end(), "cuda:0") != here.end();
  if (has_gpu && !request.simulate.contains("cuda:0") && request.vram_limit == 0) {
    fail("how much memory of cuda:0 may be used? Give vram_limit (--vram)");
  }
}

std::vector<std::string> plans_of(const MachineProfile& machine, const PlanRequest& request) {
  PlanOptions options;
  options.context = request.context;
  options.overlap = request.overlap;
  options.nodes = request.nodes;
  std::vector<std::string> plans;
  for (const Plan& plan : make_plans(machine, options)) plans.push_back(plan_json(plan));
  return plans;
}

}  // namespace

PlanReport plan_machine(const PlanRequest& request) {
  check(request);
  PlanReport report;
  report.cache_file = file_in(request.cache, profile_key(request));
  const std::string kept =
      report.cache_file.empty() || request.measure ? "" : content_of(report.cache_file);
  MachineProfile machine;
  if (kept.empty()) {
    machine = measure_machine(request);
    report.measured = true;
    if (!report.cache_file.empty()) write_whole(report.cache_file, profile_json(machine));
  } else {
    machine = parse_profile(kept, report.cache_file);
  }
  add_imagined(request, machine);
  limit_memory(request, machine);
  report.profile = profile_json(machine);
  report.plans = plans_of(machine, request);
  return report;
}

std::vector<std::string> plan_profile(const std::string& profile, const PlanRequest& request) {
  check_wishes(request);
  MachineProfile machine = parse_profile(profile, "profile");
  limit_memory(request, machine);
  return plans_of(machine, request);
}

}  // namespace forerun
