#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <vector>

#include "base/dice.h"
#include "draft/slot_grower.h"
#include "verify/ratio.h"

namespace forerun::test {

using Tokens = std::vector<int32_t>;

// Dice that show every outcome once: what was thrown before is replayed, the last throw is changed.
class EveryOutcome final : public Dice {
 public:
  // Calls `run` once per outcome; weight() is then the probability of the outcome.
  void enumerate(const std::function<void(Dice&)>& run) {
    throws_.clear();
    do {
      at_ = 0;
      weight_ = 1.0;
      run(*this);
    } while (advance());
  }
  double weight() const { return weight_; }

  bool accept(double p, double q) override {
    const double yes = p <= 0.0 ? 0.0 : p >= q ? 1.0 : p / q;
    return choose({yes, 1.0 - yes}) == 0;
  }
  size_t pick(std::span<const double> weights) override {
    double sum = 0.0;
    std::vector<double> shares;
    for (const double weight : weights) sum += shares.emplace_back(std::max(weight, 0.0));
    for (double& share : shares) share /= sum;
    return choose(std::move(shares));
  }
  // A rule that is exact for uniform numbers, given tokens drawn after them, is exact for these.
  double uniform() override { return kPoints[choose({0.4, 0.6})]; }

 private:
  static constexpr double kPoints[] = {0.2, 0.8};
  struct Throw {
    std::vector<double> shares;
    size_t shown;
  };

  size_t choose(std::vector<double> shares) {
    if (at_ == throws_.size()) {
      throws_.push_back({std::move(shares), 0});
      skip_impossible(throws_.back());
    }
    const Throw& thrown = throws_[at_++];
    weight_ *= thrown.shares[thrown.shown];
    return thrown.shown;
  }
  static bool skip_impossible(Throw& thrown) {
    while (thrown.shown < thrown.shares.size() && !(thrown.shares[thrown.shown] > 0.0)) {
      ++thrown.shown;
    }
    return thrown.shown < thrown.shares.size();
  }
  bool advance() {
    while (!throws_.empty()) {
      ++throws_.back().shown;
      if (skip_impossible(throws_.back())) return true;
      throws_.pop_back();
    }
    return false;
  }

  std::vector<Throw> throws_;
  size_t at_ = 0;
  double weight_ = 1.0;
};

// A language model as a table: a random distribution after every text.
class TableModel {
 public:
  TableModel(int32_t vocab, uint32_t seed, double evenness = 0.8)
      : vocab_(vocab), seed_(seed), evenness_(evenness) {}
  int32_t vocab() const { return vocab_; }
  const std::vector<double>& after(const Tokens& text) const {
    std::vector<double>& row = rows_[text];
    if (!row.empty()) return row;
    std::seed_seq seed{seed_, static_cast<uint32_t>(text.size()), hash(text)};
    std::mt19937 random(seed);
    std::gamma_distribution<double> gamma(evenness_, 1.0);
    double sum = 0.0;
    for (int32_t i = 0; i < vocab_; ++i) sum += row.emplace_back(gamma(random) + 1e-3);
    for (double& p : row) p /= sum;
    return row;
  }
  void set(const Tokens& text, std::vector<double> row) { rows_[text] = std::move(row); }

 private:
  static uint32_t hash(const Tokens& text) {
    uint32_t sum = 7;
    for (const int32_t token : text) sum = sum * 31 + static_cast<uint32_t>(token);
    return sum;
  }
  int32_t vocab_;
  uint32_t seed_;
  double evenness_;
  mutable std::map<Tokens, std::vector<double>> rows_;
};

inline Tokens path_tokens(const DraftTree& tree, int32_t node) {
  Tokens text;
  for (; node > 0; node = tree.parent()[node]) text.insert(text.begin(), tree.token()[node]);
  return text;
}

class TableLaws final : public TargetLaws {
 public:
  TableLaws(const TableModel& model, const DraftTree& tree) : model_(model), tree_(tree) {}
  const TokenLaw& at(int32_t node) override {
    law_.probability = model_.after(path_tokens(tree_, node));
    return law_;
  }

 private:
  const TableModel& model_;
  const DraftTree& tree_;
  TokenLaw law_;
};

// Draws from a table, cut to its `kept` most likely tokens.
class TableSource final : public ChildSource {
 public:
  explicit TableSource(const TableModel& model, int32_t kept = INT32_MAX)
      : model_(model), kept_(kept) {}
  void children(std::span<const Guess>, int32_t, int32_t, std::vector<Guess>&) override {}
  double acceptance(std::span<const Guess> pool, int32_t node) const override {
    return pool[node].token == 0 ? 0.5 : 0.9;  // for the stop rule that reads it
  }
  void law(std::span<const Guess> pool, int32_t node, TokenLaw& q) override {
    Tokens text;
    for (; node > 0; node = pool[node].parent) text.insert(text.begin(), pool[node].token);
    const std::vector<double>& row = model_.after(text);
    std::vector<double> sorted = row;
    std::sort(sorted.rbegin(), sorted.rend());
    const double least = sorted[std::min(row.size(), static_cast<size_t>(kept_)) - 1];
    q.clear();
    double sum = 0.0;
    for (int32_t token = 0; token < model_.vocab(); ++token) {
      const double p = row[static_cast<size_t>(token)];
      if (p < least || p == 0.0) continue;
      q.tokens.push_back(token);
      q.probability.push_back(p);
      sum += p;
    }
    for (double& p : q.probability) p /= sum;
  }

 private:
  const TableModel& model_;
  int32_t kept_;
};

// What a way to draft and verify emits, over every outcome.
struct Emission {
  std::map<Tokens, double> texts;  // of one step: accepted tokens and bonus
  double accepted = 0.0;           // expected
  double total = 0.0;              // probability seen; 1

  // Largest error of the joint law of the first `length` tokens, the rest written by the target.
  double error(const TableModel& target, size_t length) const {
    std::map<Tokens, double> got;
    for (const auto& [text, weight] : texts) extend(target, text, weight, length, got);
    std::map<Tokens, double> wanted;
    extend(target, {}, 1.0, length, wanted);
    double worst = std::abs(total - 1.0);
    for (const auto& [text, weight] : wanted) worst = std::max(worst, std::abs(weight - got[text]));
    for (const auto& [text, weight] : got) {
      if (wanted.count(text) == 0) worst = std::max(worst, weight);
    }
    return worst;
  }

 private:
  static void extend(const TableModel& target, Tokens text, double weight, size_t length,
                     std::map<Tokens, double>& out) {
    if (text.size() >= length) {
      text.resize(length);
      out[text] += weight;
      return;
    }
    const std::vector<double>& row = target.after(text);
    text.push_back(0);
    for (size_t token = 0; token < row.size(); ++token) {
      text.back() = static_cast<int32_t>(token);
      extend(target, text, weight * row[token], length, out);
    }
  }
};

using Draft = std::function<void(Dice&, DraftTree&)>;
using Decide = std::function<void(const DraftTree&, TargetLaws&, Dice&, Verdict&)>;

inline Emission emission(const TableModel& target, const Draft& draft, const Decide& decide) {
  Emission out;
  EveryOutcome every;
  every.enumerate([&](Dice& dice) {
    DraftTree tree;
    tree.reset(0);
    draft(dice, tree);
    TableLaws laws(target, tree);
    Verdict verdict;
    decide(tree, laws, dice, verdict);
    Tokens text = path_tokens(tree, verdict.path.back());
    text.push_back(verdict.bonus);
    out.texts[text] += every.weight();
    out.accepted += every.weight() * verdict.accepted();
    out.total += every.weight();
  });
  return out;
}

inline Decide rule(RatioVerifier& verifier) {
  return [&verifier](const DraftTree& tree, TargetLaws& target, Dice& dice, Verdict& verdict) {
    verifier.decide(tree, target, dice, verdict);
  };
}

// Draws with a policy's rules.
inline Draft drawn(const SlotRules& rules, const TableModel& drafter, Proposal proposal,
                   Budget budget, int32_t kept = INT32_MAX, StopRules* stop = nullptr) {
  return [&rules, &drafter, proposal, budget, kept, stop](Dice& dice, DraftTree& tree) {
    TableSource source(drafter, kept);
    SlotGrower().grow(rules, source, {budget, 64, proposal, DraftSource::kModel, stop}, dice, tree);
  };
}

}  // namespace forerun::test
