#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/method.h"
#include "base/settings.h"
#include "tree/draft_tree.h"
#include "verify/node_logits.h"
#include "verify/sampler.h"

namespace forerun {

class JudgeHead;

// What the target says of a tree: the accepted nodes, root first, and the target's own token after
// them.
struct Verdict {
  std::vector<int32_t> path;  // ascending node indices, path[0] = 0
  int32_t bonus = -1;
  int32_t accepted() const { return static_cast<int32_t>(path.size()) - 1; }
};

// Decides which branch of a tree is kept.
class Verifier {
 public:
  virtual ~Verifier() = default;
  virtual std::string name() const = 0;
  // The emitted tokens are distributed as plain decoding's.
  virtual bool lossless() const = 0;
  // Stronger: they are plain decoding's, for every seed.
  virtual bool same_text() const { return false; }
  // What it is legal for, the most fitting first; kDeterministic stands for "any tree".
  virtual std::span<const Proposal> proposals() const;
  virtual bool chains_only() const { return false; }
  virtual bool needs_hidden() const { return false; }  // NodeLogits::hidden
  virtual bool needs_logits() const { return true; }   // false: NodeLogits::chosen will do
  // position: index in the sequence of the token that follows the root. The sampler's history ends
  // with the root and is extended by the accepted tokens and the bonus when the call returns.
  virtual void verify(const DraftTree& tree, const NodeLogits& logits, int64_t position,
                      Sampler& sampler, Verdict& verdict) = 0;
};

// Walks from the root to the child that carries the target's own token; where there is none, that
// token is the bonus. Every emitted token is the target's sample, so any tree gives the text of
// plain decoding (docs/exactness.md). Only visited rows are read.
class MatchVerifier final : public Verifier {
 public:
  std::string name() const override { return "match"; }
  bool lossless() const override { return true; }
  bool same_text() const override { return true; }
  bool needs_logits() const override { return false; }
  void verify(const DraftTree& tree, const NodeLogits& logits, int64_t position, Sampler& sampler,
              Verdict& verdict) override;
};

// Every verifier that exists.
std::span<const Method> verifier_methods();

// Error(kBadArgument) for a name that is none of verifier_methods(), listing them, and for an
// option "NAME.key" that the verifier does not have; for "judge" without a head.
std::unique_ptr<Verifier> make_verifier(const std::string& name, const MethodOptions& options = {},
                                        std::shared_ptr<const JudgeHead> judge = nullptr);

}  // namespace forerun
