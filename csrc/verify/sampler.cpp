#include "verify/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/math.h"
#include "verify/filters.h"
#include "verify/gumbel.h"

namespace forerun {
namespace {

void require(bool holds, const char* name, const char* range, double found) {
  if (holds) return;
  throw Error(ErrorKind::kBadArgument, std::string("sampling: ") + name + " must be " + range +
                                           ", found " + std::to_string(found));
}

void check(const Sampling& s, int32_t vocab) {
  require(vocab > 0, "vocabulary size", "positive", vocab);
  require(std::isfinite(s.temperature) && s.temperature >= 0.0F, "temperature",
          "finite and at least 0", s.temperature);
  require(s.top_k >= 0, "top_k", "at least 0 (0: all tokens)", s.top_k);
  require(s.top_p > 0.0F && s.top_p <= 1.0F, "top_p", "in (0, 1]", s.top_p);
  require(s.min_p >= 0.0F && s.min_p <= 1.0F, "min_p", "in [0, 1]", s.min_p);
  require(std::isfinite(s.repetition_penalty) && s.repetition_penalty > 0.0F, "repetition_penalty",
          "finite and above 0", s.repetition_penalty);
  require(std::isfinite(s.frequency_penalty), "frequency_penalty", "finite", s.frequency_penalty);
  require(std::isfinite(s.presence_penalty), "presence_penalty", "finite", s.presence_penalty);
  for (const auto& [token, bias] : s.logit_bias) {
    require(token >= 0 && token < vocab, "logit_bias token",
            ("in [0, " + std::to_string(vocab) + ")").c_str(), token);
    require(!std::isnan(bias) && bias < std::numeric_limits<float>::infinity(), "logit_bias",
            "finite or -inf", bias);
  }
}

}  // namespace

Sampler::Sampler(Sampling sampling, uint64_t seed, int32_t vocab)
    : sampling_(std::move(sampling)), seed_(seed), vocab_(vocab) {
  check(sampling_, vocab);
  log_min_p_ = exact_log(sampling_.min_p);
  least_scaled_ = static_cast<float>(log_min_p_);
  if (least_scaled_ < log_min_p_) least_scaled_ = std::nextafter(least_scaled_, 0.0F);
  const size_t size = static_cast<size_t>(vocab);
  if (sampling_.penalizes()) {
    occurrences_.assign(size, 0);
    output_occurrences_.assign(size, 0);
    seen_.reserve(size);
  }
  if (sampling_.penalizes() || !sampling_.logit_bias.empty()) scores_.resize(size);
  if (!greedy()) kept_.reserve(size);
}

void Sampler::push(int32_t token, bool output) {
  if (token < 0 || token >= vocab_) {
    throw Error(ErrorKind::kBadArgument, "sampler: token " + std::to_string(token) +
                                             " is outside the vocabulary of " +
                                             std::to_string(vocab_));
  }
  if (!sampling_.penalizes()) return;
  if (occurrences_[token]++ == 0) seen_.push_back(token);
  if (output) ++output_occurrences_[token];
}

void Sampler::pop(int32_t token) {
  if (!sampling_.penalizes()) return;
  --output_occurrences_[token];
  if (--occurrences_[token] == 0) seen_.pop_back();  // it was the last to be seen first
}

void Sampler::check_row(std::span<const float> logits) const {
  if (static_cast<int64_t>(logits.size()) == vocab_) return;
  throw Error(ErrorKind::kBadArgument, "sampler: a row of " + std::to_string(logits.size()) +
                                           " logits for a vocabulary of " + std::to_string(vocab_));
}

void Sampler::clear_history() {
  for (const int32_t token : seen_) occurrences_[token] = output_occurrences_[token] = 0;
  seen_.clear();
}

std::span<const float> Sampler::adjusted(std::span<const float> logits) {
  if (seen_.empty() && sampling_.logit_bias.empty()) return logits;
  std::copy(logits.begin(), logits.end(), scores_.begin());
  for (const int32_t token : seen_) {
    float& score = scores_[token];
    if (sampling_.repetition_penalty != 1.0F) {
      score = score > 0.0F ? score / sampling_.repetition_penalty
                           : score * sampling_.repetition_penalty;
    }
    const int32_t count = output_occurrences_[token];
    if (count > 0) {
      score -= sampling_.frequency_penalty * static_cast<float>(count);
      score -= sampling_.presence_penalty;
    }
  }
  for (const auto& [token, bias] : sampling_.logit_bias) scores_[token] += bias;
  return scores_;
}

// The winner among all tokens is the winner among the kept ones if it is kept. Else all that are
// kept rank before it, and the race is run again among those: no list is made and nothing is
// sorted.
int32_t Sampler::sample_unranked(std::span<const float> row, int32_t best, int64_t position) const {
  const GumbelDraw draw{sampling_.temperature, seed_, position};
  int32_t winner = draw.among_all(row, best, least_scaled_);
  while (!in_top_p(row, best, sampling_.temperature, sampling_.top_p, winner)) {
    winner = draw.among_all(row, best, least_scaled_, winner);
  }
  return winner;
}

bool Sampler::filter(std::span<const float> row, int32_t best) {
  const float temperature = sampling_.temperature;
  const bool top_k = sampling_.top_k > 0 && sampling_.top_k < vocab_;
  const bool top_p = sampling_.top_p < 1.0F;
  if (top_k) {
    keep_top_k(row, sampling_.top_k, kept_);
    if (top_p) cut_top_p(row, temperature, sampling_.top_p, kept_);
  } else if (top_p) {
    keep_top_p(row, temperature, sampling_.top_p, kept_);
  }
  if (sampling_.min_p > 0.0F) {
    const auto fails = [&](int32_t id) {
      return !passes_min_p(row[id], row[best], temperature, log_min_p_);
    };
    if (top_k || top_p) {
      std::erase_if(kept_, fails);
    } else {
      kept_.clear();
      for (int32_t id = 0; id < vocab_; ++id) {
        if (!fails(id)) kept_.push_back(id);
      }
    }
    return true;
  }
  return top_k || top_p;
}

int32_t Sampler::sample(std::span<const float> logits, int64_t position) {
  check_row(logits);
  const std::span<const float> row = adjusted(logits);
  const int32_t best = best_token(row);
  if (greedy() || !std::isfinite(row[best])) return best;
  const bool ranked = sampling_.top_k > 0 && sampling_.top_k < vocab_;
  if (!ranked) return sample_unranked(row, best, position);
  filter(row, best);
  return GumbelDraw{sampling_.temperature, seed_, position}.among(row, kept_, best);
}

std::optional<TokenDraw> Sampler::draw(int64_t position) const {
  if (sampling_.penalizes() || !sampling_.logit_bias.empty()) return std::nullopt;
  return TokenDraw{seed_,         position,        sampling_.temperature,
                   least_scaled_, sampling_.top_k, sampling_.top_p};
}

void Sampler::distribution(std::span<const float> logits, TokenLaw& law) {
  check_row(logits);
  const std::span<const float> row = adjusted(logits);
  const int32_t best = best_token(row);
  law.clear();
  if (greedy() || !std::isfinite(row[best])) {
    law.tokens.push_back(best);
    law.probability.push_back(1.0);
    return;
  }
  const auto weight = [&](int32_t id) {
    const float z = scaled(row[id], row[best], sampling_.temperature);
    return z > -std::numeric_limits<float>::infinity() ? exact_exp(z) : 0.0;  // NaN too
  };
  if (filter(row, best)) {
    law.tokens = kept_;
    std::sort(law.tokens.begin(), law.tokens.end());
    for (const int32_t id : law.tokens) law.probability.push_back(weight(id));
  } else {
    law.probability.resize(row.size());
    for (int32_t id = 0; id < vocab_; ++id) law.probability[id] = weight(id);
  }
  double total = 0.0;
  for (const double p : law.probability) total += p;
  for (double& p : law.probability) p /= total;
}

}  // namespace forerun
