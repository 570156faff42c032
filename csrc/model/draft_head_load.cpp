#include <string>

#include "base/error.h"
#include "model/draft_head.h"
#include "model/weight_binder.h"

namespace forerun {

// Binds the tensors of a draft file by the graph of its family.
class HeadLoader {
 public:
  HeadLoader(std::shared_ptr<const Checkpoint> file, std::shared_ptr<const Model> target,
             std::shared_ptr<Backend> backend)
      : head_(new DraftHead), file_(std::move(file)), bind_(*file_) {
    bind_.go_to(*backend);
    head_->config_ = read_head_config(*file_);
    head_->target_ = std::move(target);
    head_->backend_ = std::move(backend);
  }

  std::shared_ptr<const DraftHead> load(uint64_t fingerprint) {
    const HeadConfig& c = head_->config_;
    const std::string why = c.target.misfit(head_->target_->config(), fingerprint);
    if (!why.empty()) {
      throw Error(ErrorKind::kBadArgument,
                  "draft head " + file_->path() + " cannot draft for this target: " + why);
    }
    check_place();
    head_->rope_frequencies_ = rope_frequencies(c.rope);
    bind_entry();
    head_->blocks_.resize(static_cast<size_t>(c.blocks));
    for (int32_t i = 0; i < c.blocks; ++i) bind_block(head_->blocks_[static_cast<size_t>(i)], i);
    bind_head();
    bind_acceptance();
    refuse_others();
    head_->weights_bytes_ = bind_.bytes() + (c.own_head ? 0 : head_->head_->weight->bytes);
    return std::shared_ptr<const DraftHead>(std::move(head_));
  }

 private:
  // Its rows and those of the target's first layers take turns.
  void check_place() const {
    const Model& target = *head_->target_;
    const bool together =
        target.backends().size() == 1 && head_->backend_.get() == &target.backend();
    if (head_->config_.exit_layers() == 0 || together) return;
    throw Error(ErrorKind::kUnsupported, "draft head " + file_->path() +
                                             " runs layers of the target, so both have to lie on "
                                             "one device; use another draft or placement");
  }

  // What makes the first hidden state of a row.
  void bind_entry() {
    const HeadConfig& c = head_->config_;
    const int32_t width = c.shape.width, target = c.target.width;
    switch (c.family) {
      case HeadFamily::kDgf:
        head_->token_norm_ = bind_.vector("token_norm.weight", target);
        head_->w1_ = bind_.linear("dgf.w1", width, target);
        head_->w2_ = bind_.linear("dgf.w2", width, target);
        head_->gate_ = bind_.linear("dgf.gate", width, int64_t{2} * width);
        break;
      case HeadFamily::kEagle:
        head_->fuse_ = bind_.linear("fc", width, int64_t{target} + width);
        break;
      case HeadFamily::kEagle3:
        head_->fuse_ = bind_.linear("fc", width, c.features());
        head_->token_norm_ = bind_.vector("block.0.token_norm.weight", target);
        head_->hidden_norm_ = bind_.vector("block.0.hidden_norm.weight", width);
        head_->final_norm_ = bind_.vector("norm.weight", width);
        break;
      case HeadFamily::kChimera: {
        const int64_t tokens = int64_t{c.tokens_read()} * target;
        head_->trigram_block_ = bind_.linear("trigram.block", tokens, tokens);
        head_->trigram_out_ = bind_.linear("trigram.out", width, tokens);
        break;
      }
      case HeadFamily::kFalcon:
        for (int32_t i = 0; i < 2; ++i) {
          const std::string name = "lstm." + std::to_string(i) + ".";
          const int64_t in = i == 0 ? int64_t{target} + width : width;
          head_->lstm_[i].in = bind_.linear(name + "in", int64_t{4} * width, in);
          head_->lstm_[i].hidden = bind_.linear(name + "hidden", int64_t{4} * width, width);
        }
        break;
      case HeadFamily::kKangaroo:
        head_->final_norm_ = bind_.vector("norm.weight", width);
        break;
      case HeadFamily::kMedusa:
      case HeadFamily::kHydra:
        if (c.blocks > 0) head_->final_norm_ = bind_.vector("norm.weight", width);
        head_->stacks_.resize(static_cast<size_t>(c.stacks));
        for (int32_t i = 0; i < c.stacks; ++i) {
          bind_stack(head_->stacks_[static_cast<size_t>(i)], i);
        }
        break;
    }
  }

  void bind_stack(HeadStack& stack, int32_t index) {
    const HeadConfig& c = head_->config_;
    const int64_t width = c.shape.width;
    const bool hydra = c.family == HeadFamily::kHydra;
    const std::string name = (hydra ? "hydra." : "medusa.") + std::to_string(index) + ".";
    if (hydra) {
      stack.skip = bind_.linear(name + "skip", width, (index + 2) * width);
      stack.in = bind_.linear(name + "in", width, (index + 2) * width);
    }
    const auto has = [this](const std::string& role) {
      return file_->find_tensor(role + ".weight") != nullptr;
    };
    for (int32_t i = 0; has(name + "block." + std::to_string(i)); ++i) {
      stack.blocks.push_back(bind_.linear(name + "block." + std::to_string(i), width, width));
    }
    if (has(name + "head")) stack.head = bind_.linear(name + "head", c.columns, width);
  }

  void bind_block(Block& block, int32_t index) {
    const HeadConfig& c = head_->config_;
    const BlockShape& s = c.shape;
    const std::string name = "block." + std::to_string(index) + ".";
    const bool joined = index == 0 && c.family == HeadFamily::kEagle3;
    const int64_t in = s.width + (joined ? c.target.width : 0);
    const int64_t q = int64_t{s.heads} * s.head_dim, kv = int64_t{s.kv_heads} * s.head_dim;
    if (index > 0 || c.norms_entry()) {
      block.attention_norm = bind_.vector(name + "attn_norm.weight", s.width);
    }
    block.q = bind_.linear(name + "q", q, in);
    block.k = bind_.linear(name + "k", kv, in);
    block.v = bind_.linear(name + "v", kv, in);
    block.output = bind_.linear(name + "o", s.width, q);
    if (s.ffn_width == 0) return;
    block.ffn_norm = bind_.vector(name + "ffn_norm.weight", s.width);
    block.gate = bind_.linear(name + "gate", s.ffn_width, s.width);
    block.up = bind_.linear(name + "up", s.ffn_width, s.width);
    block.down = bind_.linear(name + "down", s.width, s.ffn_width);
  }

  // The file's own head; else the target's, or those of its rows that the draft may propose.
  void bind_head() {
    const HeadConfig& c = head_->config_;
    const Model& target = *head_->target_;
    head_->head_ = &head_->own_head_;
    if (c.own_head) {
      head_->own_head_ = bind_.linear("head", c.columns, c.head_inputs());
      return;
    }
    const bool same_place = head_->backend_.get() == &target.backend();
    if (c.tokens.empty() && same_place) {
      head_->head_ = &target.head();
      return;
    }
    head_->own_head_ = target.head_rows(c.tokens, *head_->backend_);
  }

  // Rows of Medusa do not know their token, so nothing can be said of it; of Falcon not all do.
  void bind_acceptance() {
    const HeadConfig& c = head_->config_;
    const auto has = [this](const std::string& role) {
      return file_->find_tensor(role + ".weight") != nullptr;
    };
    const bool blind = c.family == HeadFamily::kMedusa || c.family == HeadFamily::kFalcon;
    if (blind || !has("accept.out")) return;
    for (int32_t i = 0; has("accept.block." + std::to_string(i)); ++i) {
      const std::string role = "accept.block." + std::to_string(i);
      head_->accept_blocks_.push_back(bind_.linear(role, c.head_inputs(), c.head_inputs()));
    }
    head_->accept_out_ = bind_.linear("accept.out", 1, c.head_inputs());
  }

  // A tensor that the graph does not use belongs to another graph.
  void refuse_others() const {
    for (const TensorSource& tensor : file_->tensors()) {
      if (tensor.name == "draft_tokens" || bind_.bound(tensor)) continue;
      throw Error(ErrorKind::kBadFile, file_->path() + ": tensor '" + tensor.name +
                                           "' has no place in a draft of this family");
    }
  }

  std::unique_ptr<DraftHead> head_;
  std::shared_ptr<const Checkpoint> file_;
  WeightBinder bind_;
};

std::shared_ptr<const DraftHead> DraftHead::load(std::shared_ptr<const Checkpoint> file,
                                                 std::shared_ptr<const Model> target,
                                                 uint64_t tokenizer_fingerprint,
                                                 std::shared_ptr<Backend> backend) {
  return HeadLoader(std::move(file), std::move(target), std::move(backend))
      .load(tokenizer_fingerprint);
}

}  // namespace forerun
