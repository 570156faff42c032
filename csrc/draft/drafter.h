#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/sampling.h"
#include "tree/draft_tree.h"

namespace forerun {

class KvCache;

// How much a drafter may propose this step. max_nodes counts drafted nodes, the root not included;
// 0 = plain.
struct Budget {
  int32_t max_nodes = 0;
  int32_t max_depth = 64;
  float min_value =
      0.0F;  // product of scores along a path below which a node cannot pay for itself
  double tokens_per_ms =
      0.0;  // what a millisecond of drafting must bring to be well spent; 0: do not care
  // Among several drafters: those that take time are asked only where the bit of their source is
  // set, for this many nodes of at most this many levels.
  uint32_t asked = ~0U;
  int32_t asked_nodes = INT32_MAX;
  int32_t asked_depth = INT32_MAX;
  // Set by another thread when no more is wanted: the tree stays as it is after the level at hand.
  const std::atomic<bool>* enough = nullptr;
};

// How the verifier needs children to come about; kDeterministic: any way is fine.
struct DrawNeed {
  Proposal proposal = Proposal::kDeterministic;
  bool chain = false;  // at most one child per node
};

// Seed and sampling of the request, so that a drafter may guess with the target's own noise
// (docs/exactness.md), or draw as the verifier needs it.
struct DraftNoise {
  uint64_t seed = 0;
  float temperature = 0.0F;            // 0: greedy
  DrawNeed need = {};                  // kDeterministic whenever the temperature is 0
  const Sampling* sampling = nullptr;  // of the request, for draws; null: the temperature only
  int64_t unseen = 0;  // tokens of the text that the context leaves out; positions count them
};

// Hidden states of the target, in host memory: what its taps gave (model/model.h), one tap after
// another in a row.
struct HiddenRows {
  const float* data = nullptr;
  int64_t stride = 0;
  int32_t rows = 0, width = 0;
  std::span<const float> row(int32_t i) const {
    return {data + i * stride, static_cast<size_t>(width)};
  }
  HiddenRows only_row(int32_t i) const { return {data + i * stride, stride, 1, width}; }
  HiddenRows columns(int32_t begin, int32_t count) const {
    return count > 0 ? HiddenRows{data + begin, stride, rows, count} : HiddenRows{};
  }
};

// The truth about a step, handed to the drafter after verification.
struct Observation {
  const DraftTree* tree = nullptr;
  std::span<const int32_t> path;  // accepted nodes, root first
  int32_t bonus = -1;             // the target's token after the path
  std::span<const int32_t>
      node_topk;  // [nodes, k]: the target's k best tokens after each node; empty unless needed
  int32_t k = 0;
  HiddenRows hidden = {};                   // of every node; none unless wanted
  std::span<const float> node_logits = {};  // [nodes, k]: of node_topk; empty where not known
  float temperature = 0.0F;                 // of the request
};

// A cheap source of guesses for one sequence. The context is the caller's: all tokens so far, the
// root last. Any proposal is legal under match, since the target's own sample decides; ratio
// verifiers need draws (DrawNeed), which only drafters with draws() can make.
class Drafter {
 public:
  virtual ~Drafter() = default;
  virtual std::string name() const = 0;

  // A new context, nothing of the old one holds. O(context) at most; a model drafter defers its
  // prefill.
  virtual void begin(std::span<const int32_t> context) = 0;

  // Fills `tree`, which holds only the root (= context.back()). At most budget.max_nodes nodes.
  virtual void propose(std::span<const int32_t> context, const Budget& budget,
                       const DraftNoise& noise, DraftTree& tree) = 0;

  // The target verifies `verified` from now on. A drafter with a device of its own may use the
  // time, on a thread of its own, until any other method is called.
  virtual void start_ahead(const DraftTree& verified) { (void)verified; }
  virtual void end_ahead() noexcept {}  // what was started ends; may be called at any time

  // After the accepted tokens were appended: `context` is the new one. Called for plain steps too.
  virtual void observe(std::span<const int32_t> context, const Observation& truth) = 0;

  // The target has just read context[first, first + hidden.rows), a part of a prompt. Only for
  // drafters with wanted_taps(), after begin(). What it had read for an earlier request is left
  // out.
  virtual void read(std::span<const int32_t> context, int32_t first, const HiddenRows& hidden) {
    (void)context, (void)first, (void)hidden;
  }

  // The context was cut to its first `length` tokens.
  virtual void rewind(std::span<const int32_t> context) = 0;

  // The copy has borrowed nothing yet.
  virtual std::unique_ptr<Drafter> fork() const = 0;

  // The target's cache of this sequence, for drafters that the target makes of itself; it outlives
  // the drafter. During propose() it ends before the root, and its scratch slots are the drafter's.
  virtual void borrow(KvCache& cache) { (void)cache; }

  // The request is over. emitted[i] is 1 where the target wrote context[i]; a drafter may keep it
  // for later requests.
  virtual void finish(std::span<const int32_t> context, std::span<const uint8_t> emitted) {
    (void)context, (void)emitted;
  }

  // Whether children can come about as the verifier needs it.
  virtual bool draws(const DrawNeed& need) const {
    return need.proposal == Proposal::kDeterministic;
  }

  virtual int32_t wanted_topk() const { return 0; }  // k of Observation::node_topk
  virtual std::span<const int32_t> wanted_taps() const { return {}; }  // of HiddenRows

  // What its nodes are marked with, and the drafters that it asks in turn (none: a single one).
  virtual DraftSource source() const { return DraftSource::kOther; }
  virtual std::span<const std::unique_ptr<Drafter>> parts() const { return {}; }

  // Milliseconds that proposing `nodes` nodes takes, as measured so far; 0 for table look-ups.
  virtual double expected_ms(int32_t nodes) const {
    (void)nodes;
    return 0.0;
  }
  // Milliseconds before its first guess about a context of so many tokens (a prompt to read), on
  // top of the above.
  virtual double start_ms(int32_t context) const {
    (void)context;
    return 0.0;
  }
};

}  // namespace forerun
