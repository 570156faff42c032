#include "draft/model_drafter.h"

#include <algorithm>

namespace forerun {
namespace {
constexpr int32_t kChunkRows = 128;  // of the prompt at a time
constexpr int32_t kRootOnly[] = {DraftTree::kRoot};

ExitPlan plan_for(const Model& model, double confidence, std::vector<LayerGroup> groups) {
  ExitPlan plan = ExitPlan::after(model.config().exits, confidence, model.config().layers);
  plan.groups = std::move(groups);
  return plan;
}
}  // namespace

ModelDrafter::ModelDrafter(std::shared_ptr<const Model> model, std::unique_ptr<TreePolicy> policy,
                           int32_t context, double confidence, std::shared_ptr<LevelCosts> costs,
                           std::vector<LayerGroup> groups)
    : ExitDrafter(DraftSource::kModel, model, plan_for(*model, confidence, std::move(groups)),
                  std::move(policy), kChunkRows, std::move(costs)),
      cache_(model->kv_places(), context) {}

ModelDrafter::ModelDrafter(const ModelDrafter& other)
    : ExitDrafter(other), cache_(other.cache_.fork()), tokens_(other.tokens_) {}

std::unique_ptr<Drafter> ModelDrafter::fork() const {
  return std::unique_ptr<Drafter>(new ModelDrafter(*this));
}

// The rows of an equal prefix are the same whoever wrote them, so they stay.
void ModelDrafter::keep_common_prefix(std::span<const int32_t> context) {
  rows_in_scratch_ = false;
  const size_t most = std::min(tokens_.size(), context.empty() ? 0 : context.size() - 1);
  const auto differs =
      std::mismatch(tokens_.begin(), tokens_.begin() + static_cast<int64_t>(most), context.begin());
  tokens_.erase(differs.first, tokens_.end());
  cache_.rewind(static_cast<int32_t>(tokens_.size()));
}

void ModelDrafter::observe(std::span<const int32_t> context, const Observation& truth) {
  keep_true_guesses(context);
  tell_policy(truth);
}

// Commits the rows of the root and of the guesses that are now part of the context before its new
// root.
void ModelDrafter::keep_true_guesses(std::span<const int32_t> context) {
  const size_t first = tokens_.size();
  if (rows_in_scratch_ && first + 1 < context.size() && is_whole(DraftTree::kRoot) &&
      grown().token()[DraftTree::kRoot] == context[first]) {
    path_.assign(1, DraftTree::kRoot);
    for (size_t at = first + 1; at + 1 < context.size(); ++at) {
      const int32_t child = grown().child_with(path_.back(), context[at]);
      if (child < 0 || !is_whole(child)) break;
      path_.push_back(child);
    }
    cache_.commit(path_);
    for (const int32_t node : path_) tokens_.push_back(grown().token()[node]);
  }
  rows_in_scratch_ = false;
}

int32_t ModelDrafter::room(std::span<const int32_t> context) const {
  return cache_.capacity() - static_cast<int32_t>(context.size());
}

int32_t ModelDrafter::unread(int32_t context) const {
  return context - static_cast<int32_t>(tokens_.size());
}

void ModelDrafter::open_root(std::span<const int32_t> context) {
  keep_common_prefix(context);
  // Where the root goes through the whole model, it goes along with the text before it.
  const size_t whole = context.size() - (plan().nested() ? 1 : 0);
  for (size_t done = tokens_.size(); done < whole;) {
    const size_t rows = std::min(whole - done, size_t{kChunkRows});
    read(context.subspan(done, rows), done + rows == context.size());
    done += rows;
  }
  if (plan().nested()) open_level(kRootOnly);
  rows_in_scratch_ = true;
}

// Tokens that follow those in the cache. The root's row stays scratch: it is node 0 of the levels
// that follow.
void ModelDrafter::read(std::span<const int32_t> tokens, bool with_root) {
  batch_.clear();
  batch_.add_causal(cache_, tokens, with_root ? 1 : 0);
  const Forward out = model().forward(batch_, workspace(), {plan().layers});
  const auto kept = tokens.first(tokens.size() - (with_root ? 1 : 0));
  cache_.commit_rows(static_cast<int32_t>(kept.size()));
  tokens_.insert(tokens_.end(), kept.begin(), kept.end());
  if (!with_root) return;
  keep_laws(model().backend(), out.logits, kRootOnly);
  root_is_whole();
}

}  // namespace forerun
