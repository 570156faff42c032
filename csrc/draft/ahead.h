#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/work_queue.h"
#include "draft/drafter.h"
#include "tree/prune.h"

namespace forerun {

// Whether drafting ahead pays here, found out by trying: two devices of one machine may share what
// is scarce, memory bandwidth above all. Learnt from all sequences of an engine, under its step
// lock.
class AheadTrial {
 public:
  static constexpr int32_t kBefore = 16;   // steps that draft in turn, before anything is tried
  static constexpr int32_t kFirst = 4;     // steps that draft ahead, before they are believed
  static constexpr int32_t kAgain = 64;    // steps after which what is not in use is tried again
  static constexpr double kMargin = 0.98;  // of the time in turn, that drafting ahead may take

  bool next();                      // whether the step ahead should draft ahead
  void add(bool ahead, double ms);  // what a step took, from one proposal to the next

 private:
  static constexpr double kMove = 0.15;
  static constexpr double kClip = 2.0;  // most times the average that a step counts
  double ms_[2] = {0.0, 0.0};           // [ahead]
  int32_t seen_[2] = {0, 0};
  int32_t since_ = 0;
};

// Drafts while the target verifies, for a drafter whose work is done on a device of its own.
//
// PEARL (Liu et al., ICLR 2025) for trees: while the target checks tree S, the drafter goes on
// below the leaves of S that are likeliest to end the accepted path, as if each were the root of
// the next tree. When the target's path ends in such a leaf and its bonus token is among the
// guesses made there, what lies below that guess is the next tree, and nobody waits for it (of a
// chain, that is PEARL's post-verify; its pre-verify is the case of a chain of one). Else it is
// discarded. What the drafter computed for the accepted path stays valid either way.
//
// Any proposal is legal where children are chosen, so the text does not depend on what was ready.
// Where they are drawn nothing is drafted ahead: a draw must not depend on how long the target
// took.
//
// All work of the inner drafter is done by the queue's thread. Between start_ahead() and the next
// call of any other method the queue works; each of those methods first ends that. A failure of the
// device in the meantime shows in the next proposal: what the target has found out is not lost.
class AheadDrafter final : public Drafter {
 public:
  static constexpr int32_t kLeaves = 3;  // of a verified tree, below which it goes on
  static constexpr int32_t kSpare = 4;   // nodes beyond two trees: several guesses at the bonus

  // enabled: false only moves the work to the queue. trial: null drafts ahead in every step.
  AheadDrafter(std::unique_ptr<Drafter> inner, std::shared_ptr<WorkQueue> queue,
               bool enabled = true, std::shared_ptr<AheadTrial> trial = nullptr);
  ~AheadDrafter() override;

  std::string name() const override { return inner_->name(); }
  DraftSource source() const override { return inner_->source(); }
  void begin(std::span<const int32_t> context) override;
  void propose(std::span<const int32_t> context, const Budget& budget, const DraftNoise& noise,
               DraftTree& tree) override;
  void start_ahead(const DraftTree& verified) override;
  void end_ahead() noexcept override;
  void observe(std::span<const int32_t> context, const Observation& truth) override;
  void rewind(std::span<const int32_t> context) override;
  std::unique_ptr<Drafter> fork() const override;
  void finish(std::span<const int32_t> context, std::span<const uint8_t> emitted) override;
  int32_t wanted_topk() const override { return inner_->wanted_topk(); }
  bool draws(const DrawNeed& need) const override { return inner_->draws(need); }
  double expected_ms(int32_t nodes) const override;
  double start_ms(int32_t context) const override { return inner_->start_ms(context); }

  struct Counts {
    int64_t started = 0;  // steps in which it drafted ahead
    int64_t hits = 0;     // of those, steps whose next tree was ready
  };
  Counts counts() const { return counts_; }

 private:
  struct Branch {                  // what was drafted below a leaf of the verified tree
    std::vector<int32_t> context;  // up to the leaf, the leaf last
    DraftTree tree;                // its root is the leaf
  };
  void list_leaves(const DraftTree& verified);
  void draft_ahead();  // by the queue's thread
  void wait() noexcept;
  void stop(std::span<const int32_t> truth) const;  // lets a branch that agrees with it finish
  bool take_ready(std::span<const int32_t> context, const Budget& budget, DraftTree& tree);
  void follow(std::span<const int32_t> context);
  void draft_afresh(std::span<const int32_t> context, const Budget& budget, const DraftNoise& noise,
                    DraftTree& tree);
  void count_step();

  std::unique_ptr<Drafter> inner_;
  std::shared_ptr<WorkQueue> queue_;
  bool enabled_;
  std::shared_ptr<AheadTrial> trial_;

  // Of the last proposal.
  std::vector<int32_t> context_;
  Budget budget_;
  DraftNoise noise_;
  bool proposed_ = false;

  // Of the work ahead. Written by the queue's thread while it runs, else by the caller.
  std::vector<Branch> branches_;
  int32_t listed_ = 0;   // branches in use
  int32_t drafted_ = 0;  // of them, begun
  bool ahead_ = false;   // started and not waited for
  mutable std::atomic<int32_t> current_{-1};
  mutable std::atomic<bool> enough_{false};  // leave the branch at hand
  mutable std::atomic<bool> last_{false};    // begin no further branch
  WorkQueue::Task ahead_task_;

  // Of a call that the queue carries out.
  std::span<const int32_t> asked_context_;
  const Budget* asked_budget_ = nullptr;
  const DraftNoise* asked_noise_ = nullptr;
  DraftTree* asked_tree_ = nullptr;
  WorkQueue::Task propose_task_;

  TreePruner pruner_;
  std::vector<int32_t> node_of_;
  std::vector<float> ends_;     // [nodes] probability that the path ends there
  std::exception_ptr failure_;  // of work ahead; the next proposal throws it
  double hit_rate_ = 0.0;
  double fresh_ms_ = 0.0, fresh_nodes_ = 0.0;  // averages of proposals that were not ready
  using Clock = std::chrono::steady_clock;
  Clock::time_point proposed_at_;  // the end of the last proposal
  bool counted_ = false;           // the step since then is one to learn from
  bool was_ahead_ = false;         // it drafted ahead
  std::atomic<Clock::rep> branch_began_{0};
  Counts counts_;
};

}  // namespace forerun
