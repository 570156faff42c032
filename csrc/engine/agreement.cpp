// How often some layers of the target alone, or all with groups of them side by side, would have
// chosen its next token: what early exit, skipped and parallel layers are chosen by.

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>

#include "engine/engine.h"
#include "engine/session_state.h"

namespace forerun {
namespace {

using Chunk = std::span<const int32_t>;

void append_choices(EngineState& engine, const Forward& out, std::vector<int32_t>& choices) {
  const size_t begin = choices.size();
  choices.resize(begin + static_cast<size_t>(out.logits.rows));
  std::vector<float> logits(static_cast<size_t>(out.logits.rows));
  engine.backend->top_k(out.logits, 1, std::span(choices).subspan(begin), logits);
}

// The likeliest token after each position; the cache then holds the text.
std::vector<int32_t> read(EngineState& engine, Chunk tokens, KvCache& cache, const Watch& watch) {
  std::vector<int32_t> choices;
  for (size_t done = 0; done < tokens.size();) {
    if (watch) watch();
    const size_t rows = std::min(tokens.size() - done, static_cast<size_t>(kLogitRows));
    const std::lock_guard lock(engine.step_mutex);
    engine.batch.clear();
    engine.batch.add_causal(cache, tokens.subspan(done, rows), static_cast<int32_t>(rows));
    append_choices(engine, engine.forward(), choices);
    cache.commit_rows(static_cast<int32_t>(rows));
    done += rows;
  }
  return choices;
}

std::vector<int32_t> choose_again(EngineState& engine, Chunk tokens, KvCache& cache,
                                  Workspace& workspace, const LayerRun& run, const Watch& watch) {
  std::vector<int32_t> choices;
  for (size_t done = 0; done < tokens.size();) {
    if (watch) watch();
    const size_t rows = std::min(tokens.size() - done, static_cast<size_t>(kLogitRows));
    const std::lock_guard lock(engine.step_mutex);
    engine.batch.clear();
    engine.batch.add_again(cache, static_cast<int32_t>(done), tokens.subspan(done, rows));
    append_choices(engine, engine.target->forward(engine.batch, workspace, run), choices);
    done += rows;
  }
  return choices;
}

// A text that was read, to be read again in other ways.
class Text {
 public:
  Text(EngineState& engine, Chunk tokens, const Watch& watch)
      : engine_(engine), tokens_(tokens), watch_(watch), cache_(engine.kv_places, engine.context) {
    check_tokens(engine, tokens, 0);
    if (tokens.empty()) throw Error(ErrorKind::kBadArgument, kEmptyPrompt);
    whole_ = read(engine, tokens, cache_, watch_);
  }
  // The share of the tokens after which this run chooses what the whole target chooses.
  double agreement(Workspace& workspace, const LayerRun& run) {
    const std::vector<int32_t> part =
        choose_again(engine_, tokens_, cache_, workspace, run, watch_);
    const int32_t equal = std::inner_product(part.begin(), part.end(), whole_.begin(), 0,
                                             std::plus<>(), std::equal_to<>());
    return static_cast<double>(equal) / static_cast<double>(tokens_.size());
  }

 private:
  EngineState& engine_;
  Chunk tokens_;
  const Watch& watch_;
  KvCache cache_;
  std::vector<int32_t> whole_;
};

}  // namespace

std::vector<double> Engine::layer_agreement(std::span<const int32_t> tokens,
                                            std::span<const std::vector<int32_t>> sets,
                                            const Watch& watch) {
  Text text(*state_, tokens, watch);
  std::vector<double> shares;
  for (const std::vector<int32_t>& layers : sets) {
    if (!std::is_sorted(layers.begin(), layers.end(), std::less_equal<>())) {
      throw Error(ErrorKind::kBadArgument, "layers of a part of the target must rise");
    }
    shares.push_back(text.agreement(*state_->workspace, {layers, nullptr}));
  }
  return shares;
}

std::vector<double> Engine::parallel_agreement(std::span<const int32_t> tokens,
                                               std::span<const std::string> groupings,
                                               const Watch& watch) {
  const Model& target = *state_->target;
  Text text(*state_, tokens, watch);
  std::vector<double> shares;
  for (const std::string& grouping : groupings) {
    const auto groups = parse_layer_groups(grouping, target.config().layers, "parallel layers");
    const std::unique_ptr<Workspace> workspace = [&] {
      const std::lock_guard lock(state_->step_mutex);
      return std::make_unique<Workspace>(target, kLogitRows, kLogitRows, 0, largest_group(groups));
    }();
    shares.push_back(text.agreement(*workspace, {target.all_layers(), nullptr, {}, groups}));
  }
  return shares;
}

}  // namespace forerun
