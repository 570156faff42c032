#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "draft/drafter.h"
#include "draft/shared_noise.h"
#include "draft/trigram_table.h"

namespace forerun {

// ADED (AAAI 2025, arXiv 2407.12021): a tree search over the table. Every round descends from the
// root, each time to the child with the largest share / (1 + visits)^explore, until it meets a
// guess that is not a node yet, and makes it one. With explore = 1 that is the exploration term of
// PUCT, by which subtrees are visited in proportion to their shares; smaller values follow the
// likely tokens deeper, larger ones try more of the others. At a temperature shares are what the
// target's noise makes of them (shared_noise.h). The table learns from the prompt and
// from what the target ranks after every verified node.
class TrigramDrafter final : public Drafter {
 public:
  static constexpr float kExplore = 0.8F;

  // Tenants with different names learn nothing from each other.
  explicit TrigramDrafter(std::shared_ptr<TrigramTable> table, float explore = kExplore,
                          const std::string& tenant = "");

  std::string name() const override { return "trigram"; }
  void begin(std::span<const int32_t> context) override { table_->read(salt_, context); }
  void propose(std::span<const int32_t> context, const Budget& budget, const DraftNoise& noise,
               DraftTree& tree) override;
  void observe(std::span<const int32_t> context, const Observation& truth) override;
  void rewind(std::span<const int32_t> context) override { (void)context; }
  std::unique_ptr<Drafter> fork() const override { return std::make_unique<TrigramDrafter>(*this); }
  int32_t wanted_topk() const override { return TrigramTable::kRanks; }

 private:
  struct Child {
    int32_t token;
    float share, value;
    int32_t node = -1;  // of the tree, once it is one
    int32_t visits = 0;
  };
  struct Range {
    int32_t begin, end;
  };
  // Appends the children of a node that was just added; `value` is the product of shares up to it.
  void open(int32_t node, float value, std::span<const int32_t> context, const Budget& budget,
            const DraftTree& tree);
  int32_t best_child(int32_t node) const;  // -1 when it has none
  float drawn(const Child& child) const;
  // Of the best tokens, later.
  std::span<const float> shares_of(std::span<const float> logits, float temperature);

  std::shared_ptr<TrigramTable> table_;
  uint64_t salt_;                // of the tenant
  std::vector<float> fade_;      // [visits]: 1 / (1 + visits)^explore
  std::vector<Child> children_;  // of all nodes
  std::vector<Range> of_;        // [nodes of the tree]: its children
  std::vector<TrigramTable::Successor> successors_;
  SharedNoise noise_;
  std::array<float, TrigramTable::kRanks> shares_;
};

}  // namespace forerun
