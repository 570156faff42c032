#include "draft/exit_drafter.h"

#include <algorithm>

namespace forerun {

ExitDrafter::ExitDrafter(DraftSource label, std::shared_ptr<const Model> model, ExitPlan plan,
                         std::unique_ptr<TreePolicy> policy, int32_t rows,
                         std::shared_ptr<LevelCosts> costs)
    : LevelDrafter(label, std::move(policy), std::move(costs)),
      model_(std::move(model)),
      plan_(std::make_shared<const ExitPlan>(std::move(plan))),
      rows_(rows) {
  for (std::vector<int32_t>* nodes : {&unsure_, &behind_}) nodes->reserve(kMaxNodes);
  reached_.reserve(kMaxNodes);
}

ExitDrafter::ExitDrafter(const ExitDrafter& other)
    : LevelDrafter(other), model_(other.model_), plan_(other.plan_), rows_(other.rows_) {}

Workspace& ExitDrafter::workspace() {
  if (workspace_) return *workspace_;
  Backend& backend = model_->backend();
  const ModelConfig& config = model_->config();
  workspace_ =
      std::make_unique<Workspace>(*model_, rows_, kMaxBeam, 0, largest_group(plan_->groups));
  if (plan_->nested()) {
    const int64_t row_bytes = int64_t{config.width} * static_cast<int64_t>(sizeof(float));
    streams_ = backend.allocate(kMaxNodes * row_bytes);
    start_ = backend.allocate(kMaxBeam * row_bytes);
  }
  return *workspace_;
}

void ExitDrafter::open_nodes(KvCache& cache, std::span<const int32_t> nodes) {
  workspace();
  reached_.resize(static_cast<size_t>(grown().size()));
  for (const int32_t node : nodes) reached_[static_cast<size_t>(node)] = 0;
  run(cache, nodes, nodes.size(), 0);
  unsure_.assign(nodes.begin(), nodes.end());
  for (size_t exit = 1; exit < plan_->exits.size(); ++exit) {
    std::erase_if(unsure_, [this](int32_t node) { return confidence(node) >= plan_->confidence; });
    if (unsure_.empty()) return;
    deepen(cache, exit);
  }
}

// Brings the unsure nodes to this exit, after those of their ancestors that stopped before it.
void ExitDrafter::deepen(KvCache& cache, size_t exit) {
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
    run(cache, all.subspan(at, std::min(ancestors - at, size_t{kMaxBeam})), 0, exit);
  }
  run(cache, all.subspan(ancestors), unsure_.size(), exit);
}

// From where the nodes stopped to this exit. All of them have reached the exit before it.
void ExitDrafter::run(KvCache& cache, std::span<const int32_t> nodes, size_t logit_rows,
                      size_t exit) {
  Backend& backend = model_->backend();
  const auto rows = static_cast<int32_t>(nodes.size());
  const int32_t width = model_->config().width;
  const size_t first = exit == 0 ? 0 : static_cast<size_t>(plan_->exits[exit - 1]);
  const size_t last = static_cast<size_t>(plan_->exits[exit]);
  const Tensor streams(streams_.floats(), kMaxNodes, width), start(start_.floats(), rows, width);
  if (exit > 0) backend.gather_rows(streams, nodes, start);
  batch_.clear();
  batch_.add_nodes(cache, grown(), nodes, static_cast<int32_t>(logit_rows));
  const Forward out = model_->forward(batch_, workspace(),
                                      {std::span(plan_->layers).subspan(first, last - first),
                                       exit > 0 ? &start : nullptr,
                                       {},
                                       plan_->groups});
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
