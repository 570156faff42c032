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

struct LookupOptions {
  bool tree = true;      // false: one path
  bool prompts = false;  // finished prompts are shared too, not only what the target wrote
  int32_t places = 8;    // occurrences looked at, in each index
};

// Proposes what followed the longest suffixes of the context where they occurred before, the
// longest match first, then the latest, merged into a tree of conditional frequencies.
// Without shared texts it looks in the context only: prompt lookup, "ngram" (Saxena,
// prompt-lookup-decoding). With them also in what earlier requests of the same tenant wrote:
// SuffixDecoding, "suffix" (arXiv 2411.04975); the counts of its suffix trees are taken from the
// latest occurrences instead, so that memory stays flat and texts can be taken back and leave.
class LookupDrafter final : public Drafter {
 public:
  explicit LookupDrafter(LookupOptions options = {}) : LookupDrafter(options, nullptr) {}
  // Error(kBadArgument) for a tenant's name that is too long.
  LookupDrafter(LookupOptions options, std::shared_ptr<SharedTexts> shared,
                std::string tenant = "");

  std::string name() const override { return shared_ ? "suffix" : "ngram"; }
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

  LookupOptions options_;
  std::shared_ptr<SharedTexts> shared_;  // nullptr: this context only
  std::string tenant_;
  TextIndex local_;
  std::vector<TextIndex::Occurrence> found_;
  std::vector<Continuation> places_;
  ContinuationTree grower_;
};

}  // namespace forerun
