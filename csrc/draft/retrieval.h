#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "draft/continuations.h"
#include "draft/datastore.h"
#include "draft/drafter.h"

namespace forerun {

// REST (arXiv 2311.08252): the longest suffix of the context that occurs in a datastore, and a tree
// of what follows it there most often. Of more occurrences than kPlaces a spread sample is taken.
class RetrievalDrafter final : public Drafter {
 public:
  static constexpr int32_t kLongest = 16;  // tokens of the suffix looked up
  static constexpr int32_t kShortest = 2;
  static constexpr uint64_t kPlaces = 64;

  explicit RetrievalDrafter(std::shared_ptr<const Datastore> store) : store_(std::move(store)) {}

  std::string name() const override { return "retrieval"; }
  void begin(std::span<const int32_t> context) override { (void)context; }
  void propose(std::span<const int32_t> context, const Budget& budget, const DraftNoise& noise,
               DraftTree& tree) override;
  void observe(std::span<const int32_t> context, const Observation& truth) override {
    (void)context, (void)truth;
  }
  void rewind(std::span<const int32_t> context) override { (void)context; }
  std::unique_ptr<Drafter> fork() const override {
    return std::make_unique<RetrievalDrafter>(*this);
  }

 private:
  std::shared_ptr<const Datastore> store_;
  std::vector<Continuation> places_;
  ContinuationTree grower_;
};

}  // namespace forerun
