// What a parallel region costs: microseconds from the call to the return of one that does nothing,
// for `run` (every thread takes part) and `share` (who comes takes part), back to back and after
// pauses in which the workers still spin or have gone to sleep. "split_20_us": of regions in which
// every thread works for 20 us, what they take beyond that. Prints one JSON line.
//   region_bench [threads]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <tuple>
#include <vector>

#include "base/cpu_features.h"
#include "base/thread_pool.h"

namespace forerun {
namespace {

using Clock = std::chrono::steady_clock;
using Micros = std::chrono::duration<double, std::micro>;

void busy_for(double microseconds) {
  const Clock::time_point start = Clock::now();
  while (Micros(Clock::now() - start).count() < microseconds) {
  }
}

// The caller is busy for `pause` microseconds before each region.
template <typename Region>
void measure(const char* name, double pause, int repeats, double own, Region&& region) {
  std::vector<double> taken;
  for (int i = 0; i < repeats + 100; ++i) {
    busy_for(pause);
    const Clock::time_point start = Clock::now();
    region();
    if (i >= 100) taken.push_back(Micros(Clock::now() - start).count() - own);
  }
  std::sort(taken.begin(), taken.end());
  std::printf(", \"%s\": {\"median\": %.2f, \"p99\": %.2f}", name, taken[taken.size() / 2],
              taken[taken.size() * 99 / 100]);
}

int run(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : cpu_features().cores;
  std::printf("{\"cpu\": \"%s\", \"threads\": %d, \"unit\": \"us\"", cpu_features().model.c_str(),
              threads);
  ThreadPool pool(threads);
  const auto nothing = [](int) {};
  // New threads start on the caller's core; the system spreads them within some milliseconds.
  for (const Clock::time_point start = Clock::now(); Micros(Clock::now() - start).count() < 3e5;) {
    pool.run([](int) { busy_for(20.0); });
  }
  for (const auto& [name, pause, repeats] :
       {std::tuple("back_to_back", 0.0, 20000), std::tuple("after_10_us", 10.0, 10000),
        std::tuple("after_50_us", 50.0, 5000), std::tuple("asleep", 1000.0, 500)}) {
    measure((std::string("run_") + name).c_str(), pause, repeats, 0.0, [&] { pool.run(nothing); });
    measure((std::string("share_") + name).c_str(), pause, repeats, 0.0,
            [&] { pool.share(nothing); });
  }
  // As in a product: the work is split, and the region ends with the last thread.
  measure("split_20_us", 5.0, 5000, 20.0, [&] { pool.run([](int) { busy_for(20.0); }); });
  std::printf("}\n");
  return 0;
}

}  // namespace
}  // namespace forerun

int main(int argc, char** argv) { return forerun::run(argc, argv); }
