#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "draft/drafter.h"
#include "draft/shared_noise.h"

namespace forerun {

// Tokens by position.
class TokenText {
 public:
  static constexpr int32_t kEnd = -1;
  virtual ~TokenText() = default;
  virtual int32_t token(uint64_t position) const = 0;  // kEnd where a text ends, or outside
};

// A place whose text may be what comes next.
struct Continuation {
  const TokenText* text = nullptr;
  uint64_t end = 0;     // position of the last token that agrees with the context
  int32_t matched = 0;  // tokens that agree
  uint64_t period = 0;  // > 0: after so many tokens the copy goes on with itself (a loop)
  float weight = 1.0F;  // how much this text counts beside others

  int32_t next(int32_t depth) const {  // depth 1: the first token after `end`
    const uint64_t ahead = static_cast<uint64_t>(depth - 1);
    return text->token(end + 1 + (period > 0 ? ahead % period : ahead));
  }
};

// Merges continuations into a tree and grows it best first (SuffixDecoding, arXiv 2411.04975). Each
// place votes for its next token with the odds that a match of its length, drafted tokens included,
// is right; the score of a child is its share of all votes at its parent plus one vote for none of
// them: its conditional frequency, more trusted where longer matches say so, and at a temperature
// what the target's noise makes of it (shared_noise.h). Scratch is reused.
class ContinuationTree {
 public:
  ContinuationTree();
  struct Manner {
    DraftSource source;
    SharedNoise noise = {};
    bool best_only = false;  // each node gets its best child only (SuffixDecoding's path mode)
  };
  void grow(std::span<const Continuation> places, const Budget& budget, const Manner& manner,
            DraftTree& tree);

 private:
  struct Child {  // a guess that is not a node yet
    int32_t parent, token, depth;
    float score, value;
    int32_t begin, end;  // its places, in members_
    int32_t first;       // the earliest of them
  };
  struct Vote {
    int32_t token, place;
    float odds;
  };
  static bool worse(const Child& a, const Child& b);
  void expand(std::span<const Continuation> places, int32_t node, const Child& grown,
              const Budget& budget, const Manner& manner);

  std::vector<Child> heap_;
  std::vector<int32_t> members_;
  std::vector<Vote> votes_;
};

// Estimated acceptance of the token after a match of this many tokens.
float match_score(int32_t matched);

}  // namespace forerun
