#include "verify/judge.h"

#include <algorithm>

#include "base/error.h"

namespace forerun {

JudgeVerifier::JudgeVerifier(std::shared_ptr<const JudgeHead> head, Settings settings)
    : head_(std::move(head)),
      threshold_(settings.real("threshold", 0.5, 0.0, 1.0)),
      most_in_a_row_(static_cast<int32_t>(settings.integer("most_in_a_row", 8, 0, 128))) {
  settings.text("head", "");
  settings.done();
  if (!head_) {
    throw Error(ErrorKind::kBadArgument,
                "verifier 'judge' needs a head that judges the target's hidden rows: option "
                "judge.head=FILE; `forerun train heads judge` makes one");
  }
}

// The child that the head likes best, above the threshold and not a leaf; -1 when there is none.
int32_t JudgeVerifier::judged_child(const DraftTree& tree, const NodeLogits& logits, int32_t node) {
  const std::span<const int32_t> parent = tree.parent();
  int32_t best = -1;
  double best_share = threshold_;
  for (int32_t child = node + 1; child < tree.size(); ++child) {
    if (parent[child] != node) continue;
    const auto later = parent.begin() + child + 1;
    if (std::find(later, parent.end(), child) == parent.end()) continue;
    const double share = head_->correct(logits.hidden_row(child));
    if (share > best_share) {
      best_share = share;
      best = child;
    }
  }
  return best;
}

void JudgeVerifier::verify(const DraftTree& tree, const NodeLogits& logits, int64_t position,
                           Sampler& sampler, Verdict& verdict) {
  if (logits.hidden == nullptr) {
    throw Error(ErrorKind::kBadArgument, "verifier 'judge' was given no hidden rows of the target");
  }
  verdict.path.clear();
  int32_t in_a_row = 0;
  for (int32_t node = DraftTree::kRoot;;) {
    verdict.path.push_back(node);
    const int32_t token = sampler.sample(logits.row(node), position + tree.depth()[node]);
    int32_t child = tree.child_with(node, token);
    in_a_row = child >= 0 ? 0 : in_a_row + 1;
    if (child < 0 && in_a_row <= most_in_a_row_) child = judged_child(tree, logits, node);
    if (child < 0) {
      verdict.bonus = token;
      sampler.push(token);
      return;
    }
    sampler.push(tree.token()[child]);
    node = child;
  }
}

}  // namespace forerun
