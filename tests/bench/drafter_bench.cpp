// Compares drafters on recorded answers, without the model. Prints one JSON line for each budget.
//   drafter_bench record MODEL PROMPTS OUT [TOKENS]
//   drafter_bench replay TRACES DRAFT [--budgets=8,16,..,-1] [--costs=C2,C4,..,C64]
//   [NAME.option=value ..]
// A budget of -1 leaves it to the controller. Costs are T_v[2, 4, 8, 16, 32, 64] over T_v[1].
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>

#include "base/error.h"
#include "draft_replay.h"
#include "draft_trace.h"

namespace forerun::bench {
namespace {

std::vector<double> numbers(const std::string& list) {
  std::vector<double> out;
  std::istringstream items(list);
  for (std::string item; std::getline(items, item, ',');) out.push_back(std::atof(item.c_str()));
  return out;
}

void print(const Replay& replay, const std::map<std::string, ReplaySums>& sums) {
  std::printf("{\"draft\": \"%s\", \"budget\": %d", replay.draft.c_str(), replay.fixed);
  ReplaySums all;
  const auto show = [](const char* name, const ReplaySums& s) {
    const auto steps = static_cast<double>(s.steps);
    std::printf(", \"%s\": {\"tau\": %.3f, \"gain\": %.3f, \"nodes\": %.1f, \"draft_us\": %.1f}",
                name, static_cast<double>(s.tokens) / steps,
                std::exp(s.log_gain / static_cast<double>(s.answers)),
                static_cast<double>(s.nodes) / steps, s.draft_us / steps);
  };
  for (const auto& [category, s] : sums) {
    show(category.c_str(), s);
    all.steps += s.steps;
    all.tokens += s.tokens;
    all.nodes += s.nodes;
    all.draft_us += s.draft_us;
    all.log_gain += s.log_gain;
    all.answers += s.answers;
  }
  show("all", all);
  std::printf("}\n");
}

int run(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "record" && argc >= 5) {
    record_traces(argv[2], argv[3], argv[4], argc > 5 ? std::atoi(argv[5]) : 128);
    return 0;
  }
  if (mode != "replay" || argc < 4) {
    std::fprintf(stderr, "drafter_bench record|replay ..; see the top of drafter_bench.cpp\n");
    return 2;
  }
  std::vector<DraftTrace> traces = read_traces(argv[2]);
  Replay asked;
  asked.draft = argv[3];
  asked.costs = {1.02, 1.07, 1.8, 3.0, 5.2, 10.5};
  std::vector<double> budgets = {8, 16, 32, 63, -1};
  for (int i = 4; i < argc; ++i) {
    const std::string text = argv[i];
    const size_t equals = text.find('=');
    const std::string key = text.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : text.substr(equals + 1);
    if (key == "--costs") {
      asked.costs = numbers(value);
    } else if (key == "--budgets") {
      budgets = numbers(value);
    } else {
      asked.options[key] = value;
    }
  }
  for (const double budget : budgets) {
    asked.fixed = static_cast<int32_t>(budget);
    print(asked, replay(asked, traces));
  }
  return 0;
}

}  // namespace
}  // namespace forerun::bench

int main(int argc, char** argv) {
  try {
    return forerun::bench::run(argc, argv);
  } catch (const forerun::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
