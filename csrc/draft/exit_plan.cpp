#include "draft/exit_plan.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/parse_count.h"

namespace forerun {
namespace {

[[noreturn]] void refuse(const char* key, const std::string& text, const std::string& expected) {
  throw Error(ErrorKind::kBadArgument,
              std::string("option early-exit.") + key + " is '" + text + "', expected " + expected);
}

int32_t number(const char* key, const std::string& text, const std::string& part, int32_t most) {
  const int32_t value = parse_count(part);
  if (value < 0 || value > most) {
    refuse(key, text, "numbers from 0 to " + std::to_string(most) + " joined by ','");
  }
  return value;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size() && !text.empty();) {
    const size_t end = std::min(text.find(',', at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

}  // namespace

ExitPlan ExitPlan::parse(const std::string& skip, const std::string& exits, double confidence,
                         int32_t layers) {
  std::vector<uint8_t> kept(static_cast<size_t>(layers), 1);
  for (const std::string& part : split(skip)) {
    const size_t dash = part.find('-');
    const int32_t first = number("skip", skip, part.substr(0, dash), layers - 1);
    const int32_t last =
        dash == std::string::npos ? first : number("skip", skip, part.substr(dash + 1), layers - 1);
    if (last < first) refuse("skip", skip, "ranges that rise, such as 8-13,16");
    std::fill(kept.begin() + first, kept.begin() + last + 1, uint8_t{0});
  }
  ExitPlan plan;
  plan.confidence = confidence;
  int32_t before = 0;  // layers of the target up to the last exit
  const auto add_exit = [&](int32_t layer) {
    for (; before < layer; ++before) {
      if (kept[static_cast<size_t>(before)] != 0) plan.layers.push_back(before);
    }
    const auto count = static_cast<int32_t>(plan.layers.size());
    if (count == 0 || (!plan.exits.empty() && plan.exits.back() == count)) {
      refuse("exits", exits, "exits with layers before each; skipped are '" + skip + "'");
    }
    plan.exits.push_back(count);
  };
  for (const std::string& part : split(exits)) {
    const int32_t layer = number("exits", exits, part, layers);
    if (layer <= before) refuse("exits", exits, "layers from 1 on that rise");
    add_exit(layer);
  }
  if (plan.exits.empty()) add_exit(layers);
  return plan;
}

ExitPlan ExitPlan::after(std::vector<int32_t> exits, double confidence, int32_t layers) {
  ExitPlan plan{{}, std::move(exits), confidence, {}};
  if (plan.exits.empty()) plan.exits = {layers};
  plan.layers.resize(static_cast<size_t>(plan.exits.back()));
  std::iota(plan.layers.begin(), plan.layers.end(), 0);
  return plan;
}

}  // namespace forerun
