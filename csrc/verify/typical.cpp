#include "verify/typical.h"

#include <algorithm>
#include <limits>

#include "base/math.h"

namespace forerun {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

double entropy(const TokenLaw& p) {
  double sum = 0.0;
  for (const double x : p.probability) {
    if (x > 0.0) sum -= x * exact_log(x);
  }
  return sum;
}

}  // namespace

TypicalVerifier::TypicalVerifier(Settings settings)
    : epsilon_(settings.real("epsilon", 0.09, 0.0, 1.0)),
      delta_(settings.real("delta", 0.3, 0.0, 1.0)) {
  settings.done();
}

// The end of the best good path below `from`, or `from` itself.
int32_t TypicalVerifier::best_below(const DraftTree& tree, int32_t from) {
  log_p_.assign(static_cast<size_t>(tree.size()), kNever);
  log_p_[from] = 0.0;
  int32_t best = from;
  int32_t parent = -1;  // of the threshold at hand
  double threshold = 0.0;
  for (int32_t node = from + 1; node < tree.size(); ++node) {
    const int32_t above = tree.parent()[node];
    if (log_p_[above] == kNever) continue;
    const TokenLaw& p = laws_.at(above);
    if (above != parent) {
      parent = above;
      threshold = std::min(epsilon_, delta_ * exact_exp(-entropy(p)));
    }
    const double probability = p.of(tree.token()[node]);
    if (!(probability > threshold)) continue;
    log_p_[node] = log_p_[above] + exact_log(probability);
    const int32_t depth = tree.depth()[node], longest = tree.depth()[best];
    if (depth > longest || (depth == longest && log_p_[node] > log_p_[best])) best = node;
  }
  return best;
}

void TypicalVerifier::verify(const DraftTree& tree, const NodeLogits& logits, int64_t position,
                             Sampler& sampler, Verdict& verdict) {
  if (sampler.greedy()) {
    match_.verify(tree, logits, position, sampler, verdict);
    return;
  }
  laws_.begin(tree, logits, sampler);
  verdict.path.assign(1, DraftTree::kRoot);
  for (int32_t node = DraftTree::kRoot;;) {
    const int32_t end = best_below(tree, node);
    path_.clear();
    for (int32_t at = end; at != node; at = tree.parent()[at]) path_.push_back(at);
    verdict.path.insert(verdict.path.end(), path_.rbegin(), path_.rend());
    laws_.move_to(end);
    verdict.bonus = sampler.sample(logits.row(end), position + tree.depth()[end]);
    node = tree.child_with(end, verdict.bonus);
    if (node < 0) break;
    verdict.path.push_back(node);
  }
  sampler.push(verdict.bonus);
}

}  // namespace forerun
