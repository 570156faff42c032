#include "base/affinity.h"

#include <algorithm>

#if defined(__linux__)
#include <sched.h>
#endif

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/parse_count.h"

namespace forerun {
namespace {

[[noreturn]] void refuse(std::string_view text, const std::string& why) {
  throw Error(ErrorKind::kBadArgument,
              "cores '" + std::string(text) + "': " + why + "; expected such as 0-3,6");
}

}  // namespace

std::vector<int> usable_cores() {
  std::vector<int> cores;
#if defined(__linux__)
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &mask)) cores.push_back(core);
    }
  }
#endif
  for (int core = 0; cores.empty() && core < cpu_features().cores; ++core) cores.push_back(core);
  return cores;
}

std::vector<int> parse_cores(std::string_view text) {
  static const std::vector<int> usable = usable_cores();  // before any thread of ours is bound
  std::vector<int> cores;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string_view range = text.substr(at, end - at);
    const size_t dash = range.find('-');
    const int first = parse_count(range.substr(0, dash));
    const int last = dash == std::string_view::npos ? first : parse_count(range.substr(dash + 1));
    if (first < 0 || last < first) refuse(text, std::string(range).append(" is no range"));
    for (int core = first; core <= last; ++core) {
      if (!std::binary_search(usable.begin(), usable.end(), core)) {
        refuse(text, "core " + std::to_string(core) +
                         " may not be used here (usable: " + cores_text(usable) + ")");
      }
      if (std::find(cores.begin(), cores.end(), core) != cores.end()) {
        refuse(text, "core " + std::to_string(core) + " is named twice");
      }
      cores.push_back(core);
    }
    at = end + 1;
  }
  std::sort(cores.begin(), cores.end());
  return cores;
}

std::string cores_text(std::span<const int> cores) {
  std::string text;
  for (size_t first = 0; first < cores.size();) {
    size_t last = first;
    while (last + 1 < cores.size() && cores[last + 1] == cores[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += std::to_string(cores[first]);
    if (last > first) text += '-' + std::to_string(cores[last]);
    first = last + 1;
  }
  return text;
}

void bind_thread(std::span<const int> cores) noexcept {
#if defined(__linux__)
  if (cores.empty()) return;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  for (const int core : cores) CPU_SET(core, &mask);
  sched_setaffinity(0, sizeof(mask), &mask);
#else
  (void)cores;
#endif
}

}  // namespace forerun
