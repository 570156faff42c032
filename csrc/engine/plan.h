#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace forerun {

// What to plan for.
struct PlanRequest {
  std::string target;               // as EngineOptions::target
  std::vector<std::string> drafts;  // draft models, files or folders; one of them or none is chosen
  int64_t vram_limit = 0;           // bytes of a GPU that may be used; needed where there is one
  int64_t ram_limit = 0;            // bytes of the host; 0: nine tenths of what it has
  int32_t context = 2048;           // positions whose keys and values must fit
  int32_t threads = 0;              // of "cpu"; 0: the usable cores
  bool overlap = true;
  int32_t nodes = 0;  // drafted a step; 0: chosen
  // Imagined devices, "cuda:0" -> "bandwidth=448,compute=11000" (backend/simulated.h). Their memory
  // is what vram_limit says, if it does.
  std::map<std::string, std::string> simulate;
  double acceptance = 0.0;  // probability that a draft's best guess is right; 0: measured
  std::string cache;        // folder of measured profiles; "": none is kept
  bool measure = false;     // measure even if the cache has a profile
  std::function<void(std::string_view)> progress;  // called with what is being measured
};

struct PlanReport {
  std::vector<std::string> plans;  // JSON (sched/planner.h), best first
  std::string profile;             // JSON: what was measured
  std::string cache_file;          // where it is kept, "" nowhere
  bool measured = false;           // now; else it came from the cache
};

// Measures this machine with these models, once (the profile is kept by hardware and models), and
// plans. Takes some seconds per device and model when it measures. Errors as Engine::load, and
// Error(kOutOfMemory) when nothing fits.
FORERUN_API PlanReport plan_machine(const PlanRequest& request);

// Plans for a profile that is at hand, as PlanReport::profile has it; of the request only limits,
// context, overlap and nodes count. Error(kBadFile) for what is no profile.
FORERUN_API std::vector<std::string> plan_profile(const std::string& profile,
                                                  const PlanRequest& request);

}  // namespace forerun
