#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "draft/drafter.h"
#include "model/model.h"

namespace forerun::test {

// Lends a drafter a cache of the target's that holds the context, as a session does.
class OnACache final : public Drafter {
 public:
  OnACache(std::shared_ptr<const Model> target, int32_t context, std::unique_ptr<Drafter> drafter)
      : target_(std::move(target)),
        drafter_(std::move(drafter)),
        cache_(target_->backend(), target_->kv_layout(), context),
        workspace_(*target_, context, 1) {
    drafter_->borrow(cache_);
  }
  std::string name() const override { return drafter_->name(); }
  void begin(std::span<const int32_t> context) override { drafter_->begin(context); }
  void read(std::span<const int32_t> context, int32_t first, const HiddenRows& hidden) override {
    drafter_->read(context, first, hidden);
  }
  void propose(std::span<const int32_t> context, const Budget& budget, const DraftNoise& noise,
               DraftTree& tree) override {
    cache_.rewind(0);
    Batch batch;
    batch.add_causal(cache_, context.first(context.size() - 1), 0);
    if (batch.rows() > 0) target_->forward(batch, workspace_);
    cache_.commit_rows(batch.rows());
    drafter_->propose(context, budget, noise, tree);
    EXPECT_EQ(cache_.length(), static_cast<int32_t>(context.size()) - 1);
  }
  void observe(std::span<const int32_t> context, const Observation& truth) override {
    drafter_->observe(context, truth);
  }
  void rewind(std::span<const int32_t> context) override { drafter_->rewind(context); }
  std::unique_ptr<Drafter> fork() const override {
    return std::make_unique<OnACache>(target_, cache_.capacity(), drafter_->fork());
  }

 private:
  std::shared_ptr<const Model> target_;
  std::unique_ptr<Drafter> drafter_;
  KvCache cache_;
  Workspace workspace_;
};

}  // namespace forerun::test
