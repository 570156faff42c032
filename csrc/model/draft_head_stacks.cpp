// Medusa and Hydra: every depth below the root has a stack of its own, and all of them read the
// same state of the target.

#include <string>

#include "base/error.h"
#include "model/draft_head.h"

namespace forerun {

// x += silu(linear of `in`)
void DraftHead::add_silu(const Linear& linear, const Tensor& in, const Tensor& x,
                         HeadWorkspace& w) const {
  Tensor update = w.silu_.first_rows(x.rows), ones = w.ones_.first_rows(x.rows);
  update.cols = ones.cols = x.cols;
  const LinearTask task[] = {linear.task(update, "linear.stack")};
  backend_->linear(in, task);
  backend_->swiglu(update, ones, update);
  backend_->add(x, update);
}

// The state of the target that the rows stand on, and for Hydra the tokens from the root to the
// row: [rows, state width].
Tensor DraftHead::enter_path(const Tensor& states, int32_t depth, HeadWorkspace& w) const {
  const int32_t rows = states.rows, width = config_.shape.width;
  const auto all = std::span(w.all_rows_).first(static_cast<size_t>(rows));
  const Tensor path = w.path_.first_rows(rows);
  Tensor from = path;
  from.cols = states.cols;
  backend_->gather_rows(states, all, from);
  if (config_.family == HeadFamily::kHydra) {
    Tensor token = path;
    token.data += int64_t{width} * (depth + 1);
    token.cols = width;
    backend_->gather_rows(w.token_.first_rows(rows), all, token);
  }
  return path;
}

Tensor DraftHead::run_stack(const HeadStack& stack, const Tensor& path, HeadWorkspace& w) const {
  const Tensor x = w.fused_.first_rows(path.rows);
  if (config_.family == HeadFamily::kHydra) {
    Tensor in = path;
    in.cols = stack.in.weight->cols;
    const LinearTask skip[] = {stack.skip.task(x, "linear.stack")};
    backend_->linear(in, skip);
    add_silu(stack.in, in, x, w);
  } else {
    backend_->gather_rows(path, std::span(w.all_rows_).first(static_cast<size_t>(path.rows)), x);
  }
  for (const Linear& block : stack.blocks) add_silu(block, x, x, w);
  return x;
}

HeadForward DraftHead::forward_stack(const Batch& batch, const Tensor& states, int32_t depth,
                                     HeadWorkspace& w) const {
  if (depth >= config_.stacks) {
    throw Error(ErrorKind::kBadArgument, "depth " + std::to_string(depth) + " of a draft of " +
                                             std::to_string(config_.stacks) + " stacks");
  }
  const int32_t rows = batch.rows();
  Tensor from = states;
  if (depth == 0 && config_.blocks > 0) {
    const Tensor x = w.rows_.x.first_rows(rows), normed = w.rows_.normed.first_rows(rows);
    backend_->gather_rows(states, std::span(w.all_rows_).first(static_cast<size_t>(rows)), x);
    run_blocks(batch, w);
    backend_->rms_norm(x, final_norm_.floats(), config_.shape.norm_epsilon, normed);
    from = normed;
  }
  const Tensor path = enter_path(from, depth, w);
  const auto logit_rows = static_cast<int32_t>(batch.logit_row().size());
  const Tensor hidden = w.hidden_.first_rows(logit_rows), logits = w.logits_.first_rows(logit_rows);
  if (logit_rows > 0) {
    const HeadStack& stack = stacks_[static_cast<size_t>(depth)];
    const Linear& head = stack.head.weight ? stack.head : *head_;
    // Below the root of a tree all rows of Medusa are the same.
    const bool alike = depth > 0 && config_.family == HeadFamily::kMedusa;
    const int32_t different = alike ? 1 : logit_rows;
    const Tensor x = run_stack(stack, path.first_rows(alike ? 1 : rows), w);
    const std::span<const int32_t> wanted = alike ? std::span(w.same_row_) : batch.logit_row();
    backend_->gather_rows(x, wanted.first(static_cast<size_t>(different)),
                          hidden.first_rows(different));
    const LinearTask task[] = {head.task(logits.first_rows(different), "linear.head")};
    backend_->linear(hidden.first_rows(different), task);
    if (alike) {
      backend_->gather_rows(logits, std::span(w.same_row_).first(static_cast<size_t>(logit_rows)),
                            logits);
    }
  }
  return {logits, path};
}

}  // namespace forerun
