#include "draft/head_drafter.h"

#include <algorithm>

#include "base/blocks.h"

namespace forerun {
namespace {
constexpr int32_t kChunkRows = 128;  // of the text at a time
constexpr int32_t kRootOnly[] = {DraftTree::kRoot};
}  // namespace

HeadScratch::HeadScratch(const DraftHead& head)
    : workspace(head.backend(), head.config(), kChunkRows,
                LevelDrafter::kMaxBeam * head.config().span) {
  TensorArena arena;
  const int32_t width = head.config().state_width();
  arena.add(true_states, kChunkRows + head.config().span - 1, head.config().features());
  arena.add(own_states, LevelDrafter::kMaxNodes, width);
  arena.add(above, LevelDrafter::kMaxBeam, width);
  memory = arena.allocate(head.backend());
  if (head.config().exit_layers() > 0) {
    target = std::make_unique<Workspace>(head.target(), LevelDrafter::kMaxBeam, 0);
  }
  acceptance.assign(LevelDrafter::kMaxNodes, 1.0F);
  halves.reserve(static_cast<size_t>(kChunkRows + head.config().span) *
                 static_cast<size_t>(head.config().features()));
  tokens.reserve(static_cast<size_t>(kChunkRows) *
                 static_cast<size_t>(head.config().tokens_read()));
}

HeadDrafter::HeadDrafter(std::shared_ptr<const DraftHead> head,
                         std::shared_ptr<HeadScratch> scratch, std::unique_ptr<TreePolicy> policy,
                         int32_t context, std::shared_ptr<LevelCosts> costs)
    : LevelDrafter(DraftSource::kHead, std::move(policy), std::move(costs)),
      head_(std::move(head)),
      scratch_(std::move(scratch)),
      width_(static_cast<size_t>(head_->config().features())),
      cache_(head_->backend(), head_->kv_layout(), context) {}

HeadDrafter::HeadDrafter(const HeadDrafter& other)
    : LevelDrafter(other),
      head_(other.head_),
      scratch_(other.scratch_),
      width_(other.width_),
      cache_(other.cache_.fork()),
      first_(other.first_),
      tokens_(other.tokens_),
      states_(other.states_) {}

std::unique_ptr<Drafter> HeadDrafter::fork() const {
  return std::unique_ptr<Drafter>(new HeadDrafter(*this));
}

// States and rows depend on the tokens up to their own, so those of an equal prefix stay.
void HeadDrafter::keep_common_prefix(std::span<const int32_t> context) {
  root_in_scratch_ = false;
  const auto most = static_cast<int64_t>(std::min(tokens_.size(), context.size()));
  const auto differs = std::mismatch(tokens_.begin(), tokens_.begin() + most, context.begin());
  const auto length = static_cast<int32_t>(differs.first - tokens_.begin());
  const int32_t states = std::max(length - states_begin(), 0);
  tokens_.resize(static_cast<size_t>(length));
  states_.resize(static_cast<size_t>(states) * width_);
  cache_.rewind(std::clamp(length - first_, 0, cache_.length()));
  forget_what_cannot_follow();
}

// Forgets everything: the next state is that before `token`.
void HeadDrafter::start_at(std::span<const int32_t> context, int32_t token) {
  tokens_.assign(context.begin(), context.begin() + token);
  states_.clear();
  states_.reserve((2 * kKept + 1) * width_);  // touched as it fills
  cache_.rewind(0);
  first_ = token;
}

// Appends a pair. Old states go once there are twice as many as are kept.
void HeadDrafter::add(int32_t token, std::span<const float> state) {
  tokens_.push_back(token);
  states_.insert(states_.end(), state.begin(), state.end());
  const auto kept = static_cast<int64_t>(kKept * width_);
  if (static_cast<int64_t>(states_.size()) <= 2 * kept) return;
  states_.erase(states_.begin(), states_.end() - kept);
  forget_what_cannot_follow();
}

// The row after those in the cache can be made only if its states are still there, and of a span
// those that the root's reads; else the cache starts anew with the oldest that is.
void HeadDrafter::forget_what_cannot_follow() {
  const int32_t of_row = next_row() - span() + 1;
  const int32_t of_root = end() - root_states();
  const int32_t oldest = std::max(std::min(of_row, of_root), first_);
  if (cache_.length() > 0 && oldest >= states_begin()) return;
  cache_.rewind(0);
  first_ = states_begin();
}

void HeadDrafter::read(std::span<const int32_t> context, int32_t first, const HiddenRows& hidden) {
  root_in_scratch_ = false;
  const int32_t oldest = std::max(first, static_cast<int32_t>(context.size()) - 1 - 2 * kKept);
  if (oldest >= first + hidden.rows) return;
  if (oldest + 1 > end()) start_at(context, oldest + 1);
  for (int32_t i = end() - first - 1; i < hidden.rows; ++i) {
    add(context[static_cast<size_t>(first + i) + 1], hidden.row(i));
  }
  if (head_->config().blocks > 0) forward_text(end() - 1);
}

void HeadDrafter::observe(std::span<const int32_t> context, const Observation& truth) {
  const auto before = static_cast<int32_t>(context.size() - truth.path.size());
  if (root_in_scratch_ && before == end()) cache_.commit_rows(1);  // it was made of a true state
  root_in_scratch_ = false;
  if (truth.hidden.rows > 0 && !truth.path.empty()) {
    if (before > end()) start_at(context, before);
    for (size_t i = 0; i < truth.path.size(); ++i) {
      add(context[static_cast<size_t>(before) + i], truth.hidden.row(truth.path[i]));
    }
  }
  tell_policy(truth);
}

// The root's pair needs the state before it.
int32_t HeadDrafter::room(std::span<const int32_t> context) const {
  const auto length = static_cast<int32_t>(context.size());
  if (end() != length || states_.empty()) return 0;
  if (exits() && (target_cache_ == nullptr || target_cache_->length() != length - 1)) return 0;
  const int32_t left = cache_.capacity() - length;
  return head_->config().by_depth() ? std::min(left, head_->config().stacks) : left;
}

int32_t HeadDrafter::unread(int32_t context) const {
  return head_->config().blocks == 0 ? 1 : context - next_row();
}

void HeadDrafter::open_root(std::span<const int32_t> context) {
  const auto root = static_cast<int32_t>(context.size()) - 1;
  cache_.rewind(std::min(cache_.length(), root - first_));
  if (head_->config().blocks == 0) {  // the root's row sees no other
    cache_.rewind(0);
    first_ = root;
  }
  root_in_scratch_ = false;
  forward_text(span() > 1 ? root : end());
  if (exits() || span() > 1) forward_nodes(kRootOnly, 1);
  if (span() > 1) root_in_scratch_ = true;
}

// The rows of the text up to that of token `to`, exclusive.
void HeadDrafter::forward_text(int32_t to) {
  int32_t rows = 0;
  for (int32_t row = next_row(); row < to; row += rows) {
    rows = std::min(to - row, kChunkRows);
    forward_rows(std::span(tokens_).subspan(static_cast<size_t>(row), static_cast<size_t>(rows)));
  }
}

// What a row reads: the tokens of the text before token `end`, and those from the root's child to
// `node`, the last ones. Before its beginning the text is taken for its first token.
void HeadDrafter::add_tokens(int32_t node, int32_t end) {
  std::vector<int32_t>& tokens = scratch_->tokens;
  const size_t first = tokens.size();
  for (int32_t left = head_->config().tokens_read(); left > 0; --left) {
    if (node > DraftTree::kRoot) {
      tokens.push_back(grown().token()[static_cast<size_t>(node)]);
      node = grown().parent()[static_cast<size_t>(node)];
    } else {
      tokens.push_back(tokens_[static_cast<size_t>(std::max(--end, 0))]);
    }
  }
  std::reverse(tokens.begin() + static_cast<int64_t>(first), tokens.end());
}

// Of the rows of a span, the first of which may lie before the root.
void HeadDrafter::add_span_tokens(int32_t node) {
  const int32_t depth = grown().depth()[static_cast<size_t>(node)];
  for (int32_t back = span() - 1; back >= 0; --back) {
    add_tokens(above(node, std::min(back, depth)), end() - std::max(back - depth, 0));
  }
}

// The states before tokens [begin, begin + count) of the text.
void HeadDrafter::upload_states(int32_t begin, int32_t count, float* to) {
  const auto from = [this](int32_t token) {
    return states_.data() + static_cast<size_t>(token - states_begin()) * width_;
  };
  const int32_t missing = std::clamp(first_ - begin, 0, count);
  for (int32_t i = 0; i < missing; ++i, to += width_) bring_states({from(first_), width_}, to);
  bring_states({from(begin + missing), static_cast<size_t>(count - missing) * width_}, to);
}

// States of another device cross the link to this one as half floats.
void HeadDrafter::bring_states(std::span<const float> states, float* to) {
  Backend& backend = head_->backend();
  if (&backend == &head_->target().backend() || backend.host_visible()) {
    return backend.upload(to, states.data(), static_cast<int64_t>(states.size_bytes()));
  }
  scratch_->halves.resize(states.size());
  std::transform(states.begin(), states.end(), scratch_->halves.begin(), float_to_finite_half);
  backend.upload_halves(to, scratch_->halves);
}

// The rows of the text that follow those in the cache. The root's stays scratch where it is node 0
// of the levels that follow.
void HeadDrafter::forward_rows(std::span<const int32_t> tokens) {
  Backend& backend = head_->backend();
  const auto rows = static_cast<int32_t>(tokens.size());
  const bool last = next_row() + rows == end() && !exits();
  const int32_t before = span() - 1;
  upload_states(next_row() - before, rows + before, scratch_->true_states.data);
  Tensor states = scratch_->true_states.first_rows(rows);  // rows of `span` states overlap
  states.cols *= span();
  scratch_->tokens.clear();
  for (int32_t i = 0; i < rows; ++i) add_tokens(DraftTree::kRoot, next_row() + i + 1);
  scratch_->batch.clear();
  scratch_->batch.add_causal(cache_, tokens, last ? 1 : 0);
  const HeadRows in{states, scratch_->tokens, 0};
  const HeadForward out = head_->forward(scratch_->batch, in, scratch_->workspace);
  cache_.commit_rows(last ? rows - 1 : rows);
  if (!last) return;
  const auto bytes = static_cast<int64_t>(sizeof(float)) * out.states.cols;
  backend.copy(scratch_->own_states.data, out.states.row(rows - 1), bytes);
  keep_laws(backend, out.logits, kRootOnly, head_->config().tokens);
  root_in_scratch_ = true;
}

void HeadDrafter::open_level(std::span<const int32_t> nodes) {
  if (span() > 1) {
    scratch_->same_depth.clear();
    for (const int32_t node : nodes) {
      if (grown().depth()[static_cast<size_t>(node)] % span() == 0) {
        scratch_->same_depth.push_back(node);
      }
    }
    if (!scratch_->same_depth.empty()) forward_nodes(scratch_->same_depth, 1);
    return;
  }
  if (!head_->config().by_depth()) return forward_nodes(nodes, 1);
  const std::span<const int32_t> depths = grown().depth();
  for (int32_t depth = 1; depth <= grown().max_depth(); ++depth) {
    scratch_->same_depth.clear();
    for (const int32_t node : nodes) {
      if (depths[static_cast<size_t>(node)] == depth) scratch_->same_depth.push_back(node);
    }
    if (!scratch_->same_depth.empty()) forward_nodes(scratch_->same_depth, depth);
  }
}

// What the rows of these nodes are made of: their own states by the target's first layers, or what
// the head made of their parents.
Tensor HeadDrafter::states_for(std::span<const int32_t> nodes) {
  if (exits()) {
    const Model& target = head_->target();
    const auto layers = static_cast<size_t>(head_->config().exit_layers());
    scratch_->batch.clear();
    scratch_->batch.add_nodes(*target_cache_, grown(), nodes, 0);
    const LayerRun run{target.all_layers().first(layers)};
    return target.forward(scratch_->batch, *scratch_->target, run).stream;
  }
  const Tensor states = scratch_->above.first_rows(static_cast<int32_t>(nodes.size()));
  if (nodes[0] == DraftTree::kRoot) {  // of a span, the only one
    upload_states(end() - root_states(), root_states(), states.data);
    return states;
  }
  scratch_->parents.clear();
  for (const int32_t node : nodes) scratch_->parents.push_back(above(node, span()));
  head_->backend().gather_rows(scratch_->own_states, scratch_->parents, states);
  return states;
}

int32_t HeadDrafter::above(int32_t node, int32_t levels) const {
  for (; levels > 0; --levels) node = grown().parent()[static_cast<size_t>(node)];
  return node;
}

int32_t HeadDrafter::law_of(int32_t node) const {
  const int32_t within = grown().depth()[static_cast<size_t>(node)] % span();
  return above(node, within) * span() + within;
}

void HeadDrafter::forward_nodes(std::span<const int32_t> nodes, int32_t depth) {
  Backend& backend = head_->backend();
  const auto count = static_cast<int32_t>(nodes.size());
  const Tensor states = states_for(nodes);
  scratch_->tokens.clear();
  for (const int32_t node : nodes) add_span_tokens(node);
  scratch_->batch.clear();
  if (span() > 1) {
    scratch_->batch.add_spans(cache_, grown(), nodes, span());
  } else {
    scratch_->batch.add_nodes(cache_, grown(), nodes, count);
  }
  const HeadRows in{states, scratch_->tokens, depth};
  const HeadForward out = head_->forward(scratch_->batch, in, scratch_->workspace);
  const auto bytes = static_cast<int64_t>(sizeof(float)) * out.states.cols;
  scratch_->laws.clear();
  for (int32_t i = 0; i < count; ++i) {
    const int32_t node = nodes[static_cast<size_t>(i)];
    backend.copy(scratch_->own_states.row(node), out.states.row(i), bytes);
    for (int32_t j = 0; j < span(); ++j) scratch_->laws.push_back(node * span() + j);
  }
  keep_laws(backend, out.logits, scratch_->laws, head_->config().tokens);
  if (!policy().stop().reads_survival()) return;
  const std::span<const float> shares = head_->acceptance(count, scratch_->workspace);
  for (size_t i = 0; i < nodes.size(); ++i) {
    scratch_->acceptance[static_cast<size_t>(nodes[i])] = shares[i];
  }
}

}  // namespace forerun
