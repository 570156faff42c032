#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "draft/continuations.h"
#include "draft/drafter.h"
#include "draft/shared_texts.h"
#include "draft/text_index.h"

namespace forerun {

struct SuffixOptions {
  bool tree = true;      // false: one path
  bool prompts = false;  // finished prompts are shared too, not only what the target wrote
  int32_t places = 32;   // occurrences looked at, in each of the two indexes
};

// SuffixDecoding (arXiv 2411.04975): what followed the longest suffixes of the context, in the
// context itself and in what earlier requests of the same tenant wrote, as a tree of conditional
// frequencies. The counts of a suffix tree are taken from the latest occurrences instead, so that
// memory stays flat and texts can be taken back and leave (TextIndex).
class SuffixDrafter final : public Drafter {
 public:
  SuffixDrafter(std::shared_ptr<SharedTexts> shared, SuffixOptions options = {},
                std::string tenant = "");

  std::string name() const override { return "suffix"; }
  void begin(std::span<const int32_t> context) override;
  void propose(std::span<const int32_t> context, const Budget& budget, const DraftNoise& noise,
               DraftTree& tree) override;
  void observe(std::span<const int32_t> context, const Observation& truth) override;
  void rewind(std::span<const int32_t> context) override { follow(context); }
  void finish(std::span<const int32_t> context, std::span<const uint8_t> emitted) override;
  std::unique_ptr<Drafter> fork() const override;

 private:
  void follow(std::span<const int32_t> context);  // brings the local index to this context
  void look_up(const TextIndex& index, uint64_t before, uint32_t owner, float weight,
               std::span<const int32_t> context);

  std::shared_ptr<SharedTexts> shared_;
  SuffixOptions options_;
  std::string tenant_;
  TextIndex local_;
  std::vector<TextIndex::Occurrence> found_;
  std::vector<Continuation> places_;
  ContinuationTree grower_;
};

}  // namespace forerun
