#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "draft/tree_policy.h"

namespace forerun {

// The best guesses by the product of q along the path, level by level; children are chosen, so any
// of them may be dropped at the end, and only verifiers that take any tree can follow. Three of one
// kind:
// - "eagle2" (arXiv 2406.16858): each level grows the top_k best nodes, top_k children each.
// - "opt-tree" (arXiv 2406.17276): a beam as wide as the budget; a level that adds less than
// `delta`
//   expected tokens is the last.
// - "gumbel": eagle2 with children ranked by log q / T + G, G the target's own noise, at
//   temperatures above 0 (arXiv 2408.07978).
class BeamPolicy final : public TreePolicy {
 public:
  struct Shape {
    int32_t top_k = 8;   // 0: as many as the budget
    double delta = 0.0;  // least gain of a level
    bool noise = false;  // the target's own
  };
  BeamPolicy(std::string name, Shape shape) : name_(std::move(name)), shape_(shape) {}
  std::string name() const override { return name_; }
  std::unique_ptr<TreePolicy> clone() const override { return std::make_unique<BeamPolicy>(*this); }
  int32_t width(const Budget& budget, int32_t) const override {
    return shape_.top_k > 0 ? std::min(shape_.top_k, budget.max_nodes) : budget.max_nodes;
  }
  int32_t beam(const Budget& budget) const override {
    return shape_.top_k > 0 ? shape_.top_k : budget.max_nodes;
  }
  double least_gain() const override { return shape_.delta; }
  bool shares_noise() const override { return shape_.noise; }

 private:
  std::string name_;
  Shape shape_;
};

}  // namespace forerun
