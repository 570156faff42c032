#include "model/draft_head.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "base/error.h"
#include "model/views.h"

namespace forerun {
namespace {

// Width of the two inputs that the family puts side by side.
int32_t joined_width(const HeadConfig& c) {
  if (c.by_depth() || c.exit_layers() > 0 || c.family == HeadFamily::kChimera) return 0;
  return c.shape.width + (c.family == HeadFamily::kDgf ? c.shape.width : c.target.width);
}

}  // namespace

HeadWorkspace::HeadWorkspace(Backend& backend, const HeadConfig& c, int32_t max_rows,
                             int32_t max_logit_rows)
    : all_rows_(static_cast<size_t>(max_rows)),
      same_row_(static_cast<size_t>(max_rows)),
      max_rows_(max_rows),
      max_logit_rows_(max_logit_rows) {
  TensorArena arena;
  const bool chimera = c.family == HeadFamily::kChimera, falcon = c.family == HeadFamily::kFalcon;
  const int32_t tokens = c.tokens_read() * c.target.width;
  const int32_t widest_silu = std::max(c.head_inputs(), chimera ? tokens : 0);
  rows_.add_to(arena, c.shape, max_rows);
  arena.add(token_, max_rows, tokens);
  arena.add(path_, c.by_depth() || chimera || falcon ? max_rows : 0, c.state_width());
  arena.add(joined_, max_rows, joined_width(c));
  arena.add(fused_, max_rows, c.shape.width);
  for (Tensor* tensor : {&silu_, &ones_}) arena.add(*tensor, max_rows, widest_silu);
  const int32_t lstm_rows = falcon ? max_rows : 0;
  for (Tensor* tensor : {&gates_, &lstm_more_}) arena.add(*tensor, lstm_rows, 4 * c.shape.width);
  for (Tensor* tensor : {&cell_[0], &cell_[1], &out_[0], &out_[1], &zeros_, &minus_}) {
    arena.add(*tensor, lstm_rows, c.shape.width);
  }
  arena.add(hidden_, max_logit_rows, c.head_inputs());
  arena.add(logits_, max_logit_rows, c.columns);
  arena.add(accept_, max_logit_rows, 1);
  memory_ = arena.allocate(backend);
  const int32_t widest = std::max({tokens, c.rope.rotary, widest_silu});
  host_.assign(static_cast<size_t>(max_rows) * static_cast<size_t>(widest), 1.0F);
  backend.upload(ones_.data, host_.data(), int64_t{4} * max_rows * widest_silu);
  std::fill(host_.begin(), host_.end(), -1.0F);
  backend.upload(minus_.data, host_.data(), int64_t{4} * lstm_rows * c.shape.width);
  std::iota(all_rows_.begin(), all_rows_.end(), 0);
  backend.reserve(max_rows, std::max({c.features(), c.state_width(), joined_width(c), tokens,
                                      c.shape.ffn_width, c.shape.heads * c.shape.head_dim}));
}

void DraftHead::enter_dgf(const Tensor& states, HeadWorkspace& w) const {
  const int32_t rows = states.rows, width = config_.shape.width;
  const Tensor token = w.token_.first_rows(rows), joined = w.joined_.first_rows(rows);
  const Tensor h1 = columns(joined, 0, width), h2 = columns(joined, width, width);
  const Tensor z = w.fused_.first_rows(rows);
  backend_->rms_norm(token, token_norm_.floats(), config_.shape.norm_epsilon, token);
  const LinearTask first[] = {w1_.task(h1, "linear.fuse")}, second[] = {w2_.task(h2)};
  backend_->linear(states, first);
  backend_->linear(token, second);
  backend_->swiglu(h2, columns(w.ones_.first_rows(rows), 0, width), h2);
  const LinearTask gate[] = {gate_.task(z)};
  backend_->linear(joined, gate);
  backend_->blend(z, h1, h2, w.rows_.x.first_rows(rows));
}

void DraftHead::enter_eagle(const Tensor& states, HeadWorkspace& w) const {
  const int32_t rows = states.rows, width = config_.target.width;
  const auto all = std::span(w.all_rows_).first(static_cast<size_t>(rows));
  const Tensor joined = w.joined_.first_rows(rows);
  backend_->gather_rows(w.token_.first_rows(rows), all, columns(joined, 0, width));
  backend_->gather_rows(states, all, columns(joined, width, config_.shape.width));
  const LinearTask fuse[] = {fuse_.task(w.rows_.x.first_rows(rows), "linear.fuse")};
  backend_->linear(joined, fuse);
}

void DraftHead::enter_eagle3(const Tensor& states, bool own, HeadWorkspace& w) const {
  const int32_t rows = states.rows, width = config_.target.width;
  const float epsilon = config_.shape.norm_epsilon;
  const auto all = std::span(w.all_rows_).first(static_cast<size_t>(rows));
  const Tensor x = w.rows_.x.first_rows(rows), joined = w.joined_.first_rows(rows);
  const Tensor hidden = columns(joined, width, config_.shape.width);
  if (own) {
    backend_->gather_rows(states, all, x);
  } else {
    const LinearTask fuse[] = {fuse_.task(x, "linear.fuse")};
    backend_->linear(states, fuse);
  }
  backend_->rms_norm(w.token_.first_rows(rows), token_norm_.floats(), epsilon,
                     columns(joined, 0, width));
  backend_->rms_norm(x, hidden_norm_.floats(), epsilon, hidden);
  if (config_.norm_before_residual) backend_->gather_rows(hidden, all, x);
}

// What is shown to other rows is the state before a token; what it asks of theirs, the tokens'.
void DraftHead::enter_chimera(const Tensor& states, HeadWorkspace& w) const {
  const int32_t rows = states.rows, width = config_.shape.width;
  const auto all = std::span(w.all_rows_).first(static_cast<size_t>(rows));
  const Tensor path = w.path_.first_rows(rows), tokens = w.token_.first_rows(rows);
  backend_->gather_rows(columns(states, states.cols - width, width), all,
                        columns(path, width, width));
  backend_->rms_norm(columns(states, 0, width), blocks_[0].attention_norm.floats(),
                     config_.shape.norm_epsilon, w.fused_.first_rows(rows));
  add_silu(trigram_block_, tokens, tokens, w);
  const LinearTask out[] = {trigram_out_.task(w.rows_.x.first_rows(rows), "linear.fuse")};
  backend_->linear(tokens, out);
}

void DraftHead::enter(const Batch& batch, const HeadRows& in, HeadWorkspace& w) const {
  const size_t width = static_cast<size_t>(config_.target.width);
  const Tensor& states = in.states;
  for (size_t i = 0; i < in.tokens.size(); ++i) {
    target_->embedding(in.tokens[i], std::span(w.host_).subspan(i * width, width));
  }
  backend_->upload(w.token_.data, w.host_.data(),
                   int64_t{4} * batch.rows() * config_.tokens_read() * config_.target.width);
  rope_rows(config_.rope, rope_frequencies_, batch.position(), w.host_.data());
  backend_->upload(w.rows_.cos_sin.data, w.host_.data(),
                   int64_t{4} * batch.rows() * config_.rope.rotary);
  switch (config_.family) {
    case HeadFamily::kDgf:
      return enter_dgf(states, w);
    case HeadFamily::kEagle:
      return enter_eagle(states, w);
    case HeadFamily::kEagle3:
      return enter_eagle3(states, in.depth > 0, w);
    case HeadFamily::kChimera:
      return enter_chimera(states, w);
    case HeadFamily::kFalcon:
      return enter_falcon(states, in.depth > 0, w);
    case HeadFamily::kKangaroo:
      return backend_->gather_rows(states,
                                   std::span(w.all_rows_).first(static_cast<size_t>(states.rows)),
                                   w.rows_.x.first_rows(states.rows));
    case HeadFamily::kMedusa:
    case HeadFamily::kHydra:
      return;
  }
}

void DraftHead::run_blocks(const Batch& batch, const HeadWorkspace& w) const {
  const AttentionBatch attention = batch.attention();
  const BlockRun run{*backend_, config_.shape, attention, w.rows_.first_rows(batch.rows())};
  for (int32_t i = 0; i < config_.blocks; ++i) {
    const Block& block = blocks_[static_cast<size_t>(i)];
    if (i == 0 && config_.family == HeadFamily::kEagle3) {
      const Tensor joined = w.joined_.first_rows(batch.rows());
      run.attend(block, i, joined, joined);
      run.feed_forward(block);
    } else if (config_.family == HeadFamily::kChimera) {
      backend_->rms_norm(run.rows.x, block.attention_norm.floats(), config_.shape.norm_epsilon,
                         run.rows.normed);
      run.attend(block, i, run.rows.normed, w.fused_.first_rows(batch.rows()));
      run.feed_forward(block);
    } else {
      run.run(block, i);
    }
  }
}

void DraftHead::check(const Batch& batch, const HeadRows& in, const HeadWorkspace& w) const {
  const HeadConfig& c = config_;
  const int32_t wanted = in.depth > 0 ? c.state_width() : c.states_read() * c.features();
  const int32_t states = in.depth > 0 ? batch.rows() / c.span : batch.rows();
  const auto logit_rows = static_cast<int32_t>(batch.logit_row().size());
  const auto tokens = static_cast<size_t>(batch.rows()) * static_cast<size_t>(c.tokens_read());
  if (batch.rows() <= w.max_rows_ && logit_rows <= w.max_logit_rows_ && in.states.rows == states &&
      in.states.cols == wanted && in.tokens.size() == tokens) {
    return;
  }
  throw Error(
      ErrorKind::kBadArgument,
      "a draft head's batch of " + std::to_string(batch.rows()) + " rows and " +
          std::to_string(logit_rows) + " logit rows, with " + std::to_string(in.tokens.size()) +
          " tokens and states of " + std::to_string(in.states.rows) + " x " +
          std::to_string(in.states.cols) + "; expected " + std::to_string(config_.tokens_read()) +
          " tokens and " + std::to_string(wanted) + " values a row, and at most " +
          std::to_string(w.max_rows_) + " and " + std::to_string(w.max_logit_rows_) + " rows");
}

// What the rows below are made of: x, and what goes with it.
Tensor DraftHead::hand_down(const HeadRows& in, const Tensor& x, HeadWorkspace& w) const {
  const int32_t width = config_.shape.width, span = config_.span;
  const auto all = std::span(w.all_rows_).first(static_cast<size_t>(in.states.rows));
  const Tensor path = w.path_.first_rows(in.states.rows);
  if (config_.family == HeadFamily::kChimera) {
    backend_->gather_rows(x, all, columns(path, 0, width));
    return path;
  }
  if (span == 1 || in.depth == 0) return x;
  const int32_t kept = (span - 1) * width;
  backend_->gather_rows(columns(in.states, span * width, kept), all, columns(path, 0, kept));
  for (int32_t i = 0; i < span; ++i) {
    backend_->gather_rows(every(x, span, i), all, columns(path, kept + i * width, width));
  }
  return path;
}

HeadForward DraftHead::forward(const Batch& batch, const HeadRows& in, HeadWorkspace& w) const {
  check(batch, in, w);
  const auto logit_rows = static_cast<int32_t>(batch.logit_row().size());
  enter(batch, in, w);
  if (config_.by_depth()) return forward_stack(batch, in.states, in.depth, w);
  run_blocks(batch, w);
  const Tensor x = w.rows_.x.first_rows(batch.rows()), states = hand_down(in, x, w);
  const Tensor read = config_.head_inputs() > x.cols ? states : x;
  const Tensor hidden = w.hidden_.first_rows(logit_rows), logits = w.logits_.first_rows(logit_rows);
  if (logit_rows > 0) {
    backend_->gather_rows(read, batch.logit_row(), hidden);
    if (final_norm_.bytes() > 0) {
      backend_->rms_norm(hidden, final_norm_.floats(), config_.shape.norm_epsilon, hidden);
    }
    const LinearTask head[] = {head_->task(logits, "linear.head")};
    backend_->linear(hidden, head);
  }
  return {logits, states};
}

std::span<const float> DraftHead::acceptance(int32_t logit_rows, HeadWorkspace& w) const {
  const Tensor x = w.hidden_.first_rows(logit_rows), out = w.accept_.first_rows(logit_rows);
  for (const Linear& block : accept_blocks_) add_silu(block, x, x, w);
  const LinearTask task[] = {accept_out_.task(out, "linear.stack")};
  backend_->linear(x, task);
  const std::span<float> shares = std::span(w.host_).first(static_cast<size_t>(logit_rows));
  for (int32_t row = 0; row < logit_rows; ++row) {
    float& share = shares[static_cast<size_t>(row)];
    backend_->download(&share, out.row(row), sizeof(float));
    share = 1.0F / (1.0F + std::exp(-share));
  }
  return shares;
}

}  // namespace forerun
