#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "draft/drafter.h"
#include "draft/shape_policies.h"
#include "draft/state_file.h"

namespace forerun {

// For every token the successors that the target last ranked highest after it (Token Recycling,
// arXiv 2408.08696), and how often each rank was right. Shared by all sequences of an engine and
// kept between requests. Entries are relaxed atomics: a reader may see a row half updated, which
// costs a guess, never a wrong text.
class RecycleTable {
 public:
  static constexpr int32_t kRanks = 8;
  explicit RecycleTable(int32_t vocab);  // Error(kBadArgument) unless positive

  int32_t vocab() const { return vocab_; }
  // Row of `token`, best first, -1 for none; all -1 for a token outside the vocabulary.
  std::array<int32_t, kRanks> row(int32_t token) const;
  void store(
      int32_t token,
      std::span<const int32_t> best);  // the first kRanks; ids outside the vocabulary are skipped
  void note(int32_t token,
            int32_t successor);  // into the first free rank, unless it is there already
  void count(int32_t rank);      // the truth had this rank; kRanks: it was not in the row
  std::array<float, kRanks> rates() const;  // measured on top of a prior

  void save(StateWriter& out) const;
  void load(ByteCursor in);  // Error(kBadFile) for what no table could have saved

 private:
  std::atomic<int32_t>& cell(int32_t token, int32_t rank) const {
    return cells_[static_cast<size_t>(token) * kRanks + static_cast<size_t>(rank)];
  }

  int32_t vocab_;
  std::unique_ptr<std::atomic<int32_t>[]> cells_;           // [vocab, kRanks]
  std::array<std::atomic<uint32_t>, kRanks + 1> counts_{};  // by rank of the truth
};

// Walks the table as a tree: the static tree of the measured acceptance by rank, sized for the
// budget. The rows of all verified nodes go back into the table in node order, those of accepted
// nodes last.
class RecycleDrafter final : public Drafter, private ChildSource {
 public:
  explicit RecycleDrafter(std::shared_ptr<RecycleTable> table);

  std::string name() const override { return "recycle"; }
  DraftSource source() const override { return DraftSource::kRecycle; }
  void begin(std::span<const int32_t> context) override;
  void propose(std::span<const int32_t> context, const Budget& budget, const DraftNoise& noise,
               DraftTree& tree) override;
  void observe(std::span<const int32_t> context, const Observation& truth) override;
  void rewind(std::span<const int32_t> context) override { (void)context; }
  std::unique_ptr<Drafter> fork() const override;
  int32_t wanted_topk() const override { return std::min(RecycleTable::kRanks, table_->vocab()); }

 private:
  void children(std::span<const Guess> pool, int32_t node, int32_t width,
                std::vector<Guess>& children) override;

  std::shared_ptr<RecycleTable> table_;
  StaticPolicy policy_;
  TreeGrower grower_;
};

}  // namespace forerun
