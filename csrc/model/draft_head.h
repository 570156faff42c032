#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "io/checkpoint.h"
#include "model/batch.h"
#include "model/head_config.h"
#include "model/model.h"

namespace forerun {

// Activations of a head's forward, reused over steps; the sequences of an engine share them.
class HeadWorkspace {
 public:
  HeadWorkspace(Backend& backend, const HeadConfig& config, int32_t max_rows,
                int32_t max_logit_rows);
  int32_t max_rows() const { return max_rows_; }

 private:
  friend class DraftHead;
  Buffer memory_;
  BlockRows rows_;
  Tensor path_;               // [rows, state width]: Hydra's state and tokens, Chimera's two states
  Tensor token_;              // [rows, tokens read * target width]: embeddings
  Tensor joined_;             // [rows, what is joined]: two inputs side by side
  Tensor fused_;              // [rows, width]: made of them
  Tensor silu_, ones_;        // [rows, what add_silu adds to]
  Tensor gates_, lstm_more_;  // [rows, 4 * width], of Falcon as what follows
  Tensor cell_[2], out_[2];   // [rows, width]: of both layers
  Tensor zeros_, minus_;      // [rows, width]: 0, -1
  Tensor hidden_, logits_;    // [logit rows, head inputs], [logit rows, columns]
  Tensor accept_;             // [logit rows, 1]
  std::vector<float> host_;
  std::vector<int32_t> all_rows_;  // 0, 1, ...
  std::vector<int32_t> same_row_;  // 0, 0, ...
  int32_t max_rows_, max_logit_rows_;
};

// What the rows of a forward are made of.
struct HeadRows {
  // depth 0: rows of the text, [rows, states_read() * HeadConfig::features()] of the target, that
  // before a row's own token last. Else [nodes, state_width()] of the rows above, `span` rows being
  // a node's.
  Tensor states;
  std::span<const int32_t> tokens;  // [rows, tokens_read()], a row's own token last
  int32_t depth = 0;
};

// Logits of the rows that a batch asked for, and what each row hands to the rows below it. Valid
// until the next forward.
struct HeadForward {
  Tensor logits;  // [logit rows, columns]
  Tensor states;  // [rows, or nodes of `span` rows, HeadConfig::state_width()]
};

// Two matrices of an LSTM layer: input, forget, cell and output gates [4 * width, inputs].
struct LstmLayer {
  Linear in, hidden;
};

// What guesses at one depth in Medusa and Hydra.
struct HeadStack {
  Linear skip, in;             // of Hydra: x = skip y + silu(in y) over the state and the tokens y
  std::vector<Linear> blocks;  // x += silu(block x)
  Linear head;                 // none: the head that all share
};

// A small network that drafts from the target's hidden states. A row is a token and the state
// before it: either the target's own (HeadConfig::taps), or, below the root of a tree, where the
// target has not been yet, the state that this head made of the row above. Rows of the text see the
// rows that a batch lets them see, through keys and values of the head's own cache; so do rows of a
// tree, except in Medusa and Hydra. A row of Kangaroo is a token's own state, which some layers of
// the target make wherever it is. Immutable after load and shared by all sequences.
class DraftHead {
 public:
  // The embedding is the target's; so are the rows of the output head where the file has none.
  // Error as read_head_config, and Error(kBadArgument) with the reason when the file was not made
  // for this target, Error(kUnsupported) where it needs the target's layers on another device.
  static std::shared_ptr<const DraftHead> load(std::shared_ptr<const Checkpoint> file,
                                               std::shared_ptr<const Model> target,
                                               uint64_t tokenizer_fingerprint,
                                               std::shared_ptr<Backend> backend);

  const HeadConfig& config() const { return config_; }
  const Model& target() const { return *target_; }
  Backend& backend() const { return *backend_; }
  KvLayout kv_layout() const {
    return {std::max(config_.blocks, 1), config_.shape.kv_heads, config_.shape.head_dim,
            DType::kF16};
  }
  int64_t weights_bytes() const { return weights_bytes_; }  // read by a forward of one row

  // by_depth() heads want rows of one depth, below their stacks.
  HeadForward forward(const Batch& batch, const HeadRows& in, HeadWorkspace& w) const;

  // Whether the file has a head that predicts acceptance (SpecDec++, arXiv 2405.19715).
  bool predicts_acceptance() const { return accept_out_.weight != nullptr; }
  // How likely the target accepts the token of each row that the last forward gave logits of, given
  // the tokens above it; valid until the next call. x += silu(block x) over what is multiplied with
  // the head's rows, then sigmoid(out x).
  std::span<const float> acceptance(int32_t logit_rows, HeadWorkspace& w) const;

 private:
  DraftHead() = default;
  void check(const Batch& batch, const HeadRows& in, const HeadWorkspace& w) const;
  void enter(const Batch& batch, const HeadRows& in, HeadWorkspace& w) const;
  void enter_dgf(const Tensor& states, HeadWorkspace& w) const;
  void enter_eagle(const Tensor& states, HeadWorkspace& w) const;
  void enter_eagle3(const Tensor& states, bool own, HeadWorkspace& w) const;
  void enter_chimera(const Tensor& states, HeadWorkspace& w) const;
  void enter_falcon(const Tensor& states, bool own, HeadWorkspace& w) const;
  void run_lstm(const LstmLayer& layer, const Tensor& in, int32_t index, bool first,
                HeadWorkspace& w) const;
  Tensor hand_down(const HeadRows& in, const Tensor& x, HeadWorkspace& w) const;
  void run_blocks(const Batch& batch, const HeadWorkspace& w) const;
  Tensor enter_path(const Tensor& states, int32_t depth, HeadWorkspace& w) const;
  Tensor run_stack(const HeadStack& stack, const Tensor& path, HeadWorkspace& w) const;
  HeadForward forward_stack(const Batch& batch, const Tensor& states, int32_t depth,
                            HeadWorkspace& w) const;
  void add_silu(const Linear& linear, const Tensor& in, const Tensor& x, HeadWorkspace& w) const;

  friend class HeadLoader;
  HeadConfig config_;
  std::shared_ptr<const Model> target_;
  std::shared_ptr<Backend> backend_;
  std::vector<double> rope_frequencies_;
  std::vector<Block> blocks_;
  std::vector<HeadStack> stacks_;
  Buffer token_norm_, hidden_norm_, final_norm_;
  Linear w1_, w2_, gate_;               // dgf
  Linear fuse_;                         // eagle, eagle3
  Linear trigram_block_, trigram_out_;  // chimera
  Linear own_head_;
  const Linear* head_ = nullptr;
  LstmLayer lstm_[2];  // falcon
  std::vector<Linear> accept_blocks_;
  Linear accept_out_;
  int64_t weights_bytes_ = 0;
};

}  // namespace forerun
