#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "model/kv_cache.h"
#include "tree/draft_tree.h"

namespace forerun {

// All that one forward needs: tokens, positions, KV slots and visibility. Ragged: every row belongs
// to one sequence, and a row's value never depends on the other rows (of add_spans: on rows of
// other spans). The caches of a batch have one layout, else Error(kBadArgument).
class Batch {
 public:
  void clear();

  // Rows of a prompt chunk, each seeing all before it. Logits are wanted of the last `logit_rows`
  // rows.
  void add_causal(KvCache& cache, std::span<const int32_t> tokens, int32_t logit_rows);

  // The nodes of a draft tree from `first_node` on; earlier nodes were already forwarded into the
  // scratch slots after length() (a drafter that grows its tree level by level). Logits are wanted
  // of all rows added.
  void add_tree(KvCache& cache, const DraftTree& tree, int32_t first_node = 0);

  // Only these nodes of the tree, ascending, each in its own slot. Logits are wanted of the last
  // `logit_rows` of them.
  void add_nodes(KvCache& cache, const DraftTree& tree, std::span<const int32_t> nodes,
                 int32_t logit_rows);

  // Spans of `length` rows, each the last of the path to one of these nodes, whose depths are
  // multiples of it: the rows of a span see one another, what is committed, and the spans above.
  // The root's begins in the text; such rows say the root's token, and their keys and values, which
  // are committed, are not seen again. A span has slots of its own, its node's row in the first:
  // length() + node * length. Logits are wanted of all rows.
  void add_spans(KvCache& cache, const DraftTree& tree, std::span<const int32_t> nodes,
                 int32_t length);

  // Committed positions [first, first + tokens) once more, each in a scratch slot of its own: a row
  // sees what is committed before it and itself, but none of the other rows. Logits are wanted of
  // all. Error(kBadArgument) when they are not committed.
  void add_again(KvCache& cache, int32_t first, std::span<const int32_t> tokens);

  int32_t rows() const { return static_cast<int32_t>(token_.size()); }
  std::span<const int32_t> token() const { return token_; }        // [rows]
  std::span<const int32_t> position() const { return position_; }  // [rows]
  std::span<const int32_t> logit_row() const {
    return logit_row_;
  }  // rows whose logits are computed, ascending

  // Views into this batch, with the pages of one place of the caches (KvCache::places).
  AttentionBatch attention(size_t place = 0) const;

 private:
  int32_t add_sequence(KvCache& cache, int32_t rows);  // its index
  void add_node(int32_t sequence, int32_t base, const DraftTree& tree, int32_t node);

  using Pages = std::span<std::byte* const>;
  std::vector<int32_t> token_, position_, logit_row_;
  std::vector<AttentionRow> row_;
  std::vector<int32_t> path_;
  int32_t sequences_ = 0;
  std::vector<KvLayout> layouts_;          // per place, of all caches of the batch
  std::vector<std::vector<Pages>> pages_;  // [places][sequences]
};

}  // namespace forerun
