#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "draft/level_drafter.h"
#include "model/batch.h"
#include "model/draft_head.h"
#include "model/kv_cache.h"

namespace forerun {

// What a proposal works with; nothing of it is kept after it. Drafters that never propose at the
// same time share one, as those of an engine do.
struct HeadScratch {
  explicit HeadScratch(const DraftHead& head);
  HeadWorkspace workspace;
  Buffer memory;
  Tensor true_states;  // [chunk, features], on the head's back end
  Tensor own_states;   // [nodes of a tree, state width]: what each hands to its children
  Tensor above;        // [beam, state width]: of the parents of a level
  std::unique_ptr<Workspace> target;  // where its layers make the rows of nodes
  Batch batch;
  std::vector<int32_t> parents, same_depth, laws;
  std::vector<int32_t> tokens;    // [rows, tokens read] of a forward
  std::vector<uint16_t> halves;   // [chunk, features]: true states on their way over a link
  std::vector<float> acceptance;  // [nodes of a tree]: predicted; 1 where nothing predicts it
};

// A draft head guesses from the target's hidden states (Dovetail, EAGLE, Medusa, Hydra, Kangaroo,
// Chimera, Falcon). Its rows are pairs: token p of the text, with those before it where the family
// reads them, and the target's hidden state of token p - 1. The rows of the text are made of true
// states only and keep their keys and values; the rows of a tree are made of the head's own states,
// and are forgotten with the tree.
//
// Of heads behind some layers of the target (HeadConfig::exit_layers) a node's row is its own state
// instead: the layers run over the nodes in the scratch slots of the sequence's cache, which
// verification writes anew, and the rows of the tree follow the root's pair.
//
// A head with a span (HeadConfig::span) guesses several tokens in one forward, over as many rows:
// the last of the path to a node, which see one another. It is asked at nodes whose depth is a
// multiple of it; the nodes between find their law there. Before the cache's first row its state
// stands for those that are missing.
//
// States come from prompts (read) and from verified trees (observe); those of tokens that a prompt
// took from the prefix cache are missing. The head's cache therefore starts at some token of the
// text, and its positions count from there, which the rotation of keys cannot tell.
//
// The last 2 * kKept tokens of a prompt are read along with it, for a few per cent of what the
// target takes; what is written later is read when the drafter is asked next. At least the last
// kKept states are kept for that, so that it reads at most 2 * kKept tokens.
class HeadDrafter final : public LevelDrafter {
 public:
  static constexpr int32_t kKept = 128;

  // context: positions of a sequence.
  HeadDrafter(std::shared_ptr<const DraftHead> head, std::shared_ptr<HeadScratch> scratch,
              std::unique_ptr<TreePolicy> policy, int32_t context,
              std::shared_ptr<LevelCosts> costs = nullptr);

  std::string name() const override { return "head"; }
  std::span<const int32_t> wanted_taps() const override { return head_->config().taps; }
  void borrow(KvCache& cache) override { target_cache_ = &cache; }
  void begin(std::span<const int32_t> context) override { keep_common_prefix(context); }
  void read(std::span<const int32_t> context, int32_t first, const HiddenRows& hidden) override;
  void observe(std::span<const int32_t> context, const Observation& truth) override;
  void rewind(std::span<const int32_t> context) override { keep_common_prefix(context); }
  std::unique_ptr<Drafter> fork() const override;

  int32_t cached() const { return cache_.length(); }  // rows whose keys and values are kept

 private:
  HeadDrafter(const HeadDrafter& other);
  int32_t room(std::span<const int32_t> context) const override;
  int32_t unread(int32_t context) const override;
  void open_root(std::span<const int32_t> context) override;
  void open_level(std::span<const int32_t> nodes) override;
  double acceptance_of(int32_t node) const override {
    return scratch_->acceptance[static_cast<size_t>(node)];
  }

  int32_t end() const { return static_cast<int32_t>(tokens_.size()); }
  int32_t states_begin() const { return end() - static_cast<int32_t>(states_.size() / width_); }
  int32_t next_row() const { return first_ + cache_.length(); }
  void keep_common_prefix(std::span<const int32_t> context);
  void start_at(std::span<const int32_t> context, int32_t token);
  void add(int32_t token, std::span<const float> state);
  void forget_what_cannot_follow();
  void forward_text(int32_t to);
  void forward_rows(std::span<const int32_t> tokens);
  void bring_states(std::span<const float> states, float* to);
  void forward_nodes(std::span<const int32_t> nodes, int32_t depth);
  void add_tokens(int32_t node, int32_t end);
  void add_span_tokens(int32_t node);
  void upload_states(int32_t begin, int32_t count, float* to);
  int32_t law_of(int32_t node) const override;
  int32_t above(int32_t node, int32_t levels) const;
  int32_t span() const { return head_->config().span; }
  int32_t root_states() const { return 2 * span() - 1; }  // that the root's rows read
  Tensor states_for(std::span<const int32_t> nodes);
  bool exits() const { return head_->config().exit_layers() > 0; }

  std::shared_ptr<const DraftHead> head_;
  std::shared_ptr<HeadScratch> scratch_;
  size_t width_;  // of a row of the target's states
  KvCache cache_;
  KvCache* target_cache_ = nullptr;  // of the sequence, lent by it
  int32_t first_ = 0;                // token of the cache's first row
  bool root_in_scratch_ = false;
  std::vector<int32_t> tokens_;  // of the text; the last of them have their state
  std::vector<float> states_;    // [tokens, width_]: the target's state before each
};

}  // namespace forerun
