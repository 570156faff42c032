#include "draft/early_exit.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "base/error.h"

namespace forerun {
namespace {

constexpr int32_t kRootOnly[] = {DraftTree::kRoot};

[[noreturn]] void refuse(const char* key, const std::string& text, const std::string& expected) {
  throw Error(ErrorKind::kBadArgument,
              std::string("option early-exit.") + key + " is '" + text + "', expected " + expected);
}

int32_t number(const char* key, const std::string& text, const std::string& part, int32_t most) {
  int32_t value = -1;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
  if (error != std::errc() || end != part.data() + part.size() || value < 0 || value > most) {
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

EarlyExitDrafter::EarlyExitDrafter(std::shared_ptr<const Model> target, ExitPlan plan,
                                   std::unique_ptr<TreePolicy> policy,
                                   std::shared_ptr<LevelCosts> costs)
    : LevelDrafter(DraftSource::kEarlyExit, std::move(policy), std::move(costs)),
      target_(std::move(target)),
      plan_(std::make_shared<const ExitPlan>(std::move(plan))) {
  for (std::vector<int32_t>* nodes : {&unsure_, &behind_}) nodes->reserve(kMaxNodes);
  reached_.reserve(kMaxNodes);
}

EarlyExitDrafter::EarlyExitDrafter(const EarlyExitDrafter& other)
    : LevelDrafter(other), target_(other.target_), plan_(other.plan_) {}

std::unique_ptr<Drafter> EarlyExitDrafter::fork() const {
  return std::unique_ptr<Drafter>(new EarlyExitDrafter(*this));
}

void EarlyExitDrafter::observe(std::span<const int32_t> context, const Observation& truth) {
  (void)context;
  if (truth.tree != nullptr) policy().observe(truth);
}

int32_t EarlyExitDrafter::room(std::span<const int32_t> context) const {
  const auto length = static_cast<int32_t>(context.size());
  if (cache_ == nullptr || cache_->length() != length - 1) return 0;
  return cache_->capacity() - length;
}

int32_t EarlyExitDrafter::unread(int32_t context) const {
  (void)context;
  return 0;
}

void EarlyExitDrafter::open_root(std::span<const int32_t> context) {
  (void)context;
  if (!workspace_) {
    Backend& backend = target_->backend();
    const ModelConfig& config = target_->config();
    workspace_ = std::make_unique<Workspace>(backend, config, kMaxBeam, kMaxBeam);
    if (plan_->exits.size() > 1) {
      const int64_t row_bytes = int64_t{config.width} * static_cast<int64_t>(sizeof(float));
      streams_ = backend.allocate(kMaxNodes * row_bytes);
      start_ = backend.allocate(kMaxBeam * row_bytes);
    }
  }
  open_level(kRootOnly);
}

void EarlyExitDrafter::open_level(std::span<const int32_t> nodes) {
  reached_.resize(static_cast<size_t>(grown().size()));
  for (const int32_t node : nodes) reached_[static_cast<size_t>(node)] = 0;
  run(nodes, nodes.size(), 0);
  unsure_.assign(nodes.begin(), nodes.end());
  for (size_t exit = 1; exit < plan_->exits.size(); ++exit) {
    std::erase_if(unsure_, [this](int32_t node) { return confidence(node) >= plan_->confidence; });
    if (unsure_.empty()) return;
    deepen(exit);
  }
}

// Brings the unsure nodes to this exit, after those of their ancestors that stopped before it.
void EarlyExitDrafter::deepen(size_t exit) {
  behind_.assign(unsure_.begin(), unsure_.end());
  for (const int32_t node : unsure_) {
    for (int32_t at = grown().parent()[node]; at >= 0 && reached_[at] <= exit;
         at = grown().parent()[at]) {
      behind_.push_back(at);
    }
  }
  std::sort(behind_.begin(), behind_.end());
  behind_.erase(std::unique(behind_.begin(), behind_.end()), behind_.end());
  const size_t ancestors = behind_.size() - unsure_.size();  // the unsure are the last
  const std::span<const int32_t> all = behind_;
  for (size_t at = 0; at < ancestors; at += kMaxBeam) {
    run(all.subspan(at, std::min(ancestors - at, size_t{kMaxBeam})), 0, exit);
  }
  run(all.subspan(ancestors), unsure_.size(), exit);
}

// From where the nodes stopped to this exit. All of them have reached the exit before it.
void EarlyExitDrafter::run(std::span<const int32_t> nodes, size_t logit_rows, size_t exit) {
  Backend& backend = target_->backend();
  const auto rows = static_cast<int32_t>(nodes.size());
  const int32_t width = target_->config().width;
  const size_t first = exit == 0 ? 0 : static_cast<size_t>(plan_->exits[exit - 1]);
  const size_t last = static_cast<size_t>(plan_->exits[exit]);
  const Tensor streams(streams_.floats(), kMaxNodes, width), start(start_.floats(), rows, width);
  if (exit > 0) backend.gather_rows(streams, nodes, start);
  batch_.clear();
  batch_.add_nodes(*cache_, grown(), nodes, static_cast<int32_t>(logit_rows));
  const Forward out = target_->forward(
      batch_, *workspace_,
      {std::span(plan_->layers).subspan(first, last - first), exit > 0 ? &start : nullptr});
  if (exit + 1 < plan_->exits.size()) {
    for (int32_t i = 0; i < rows; ++i) {
      backend.copy(streams.row(nodes[i]), out.stream.row(i),
                   int64_t{width} * static_cast<int64_t>(sizeof(float)));
    }
  }
  for (const int32_t node : nodes) reached_[node] = exit + 1;
  if (logit_rows > 0) keep_laws(backend, out.logits, nodes.last(logit_rows));
}

}  // namespace forerun
