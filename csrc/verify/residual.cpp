#include "verify/residual.h"

#include <algorithm>

namespace forerun {

void Residual::begin(const TokenLaw& p, const DrawLaw& q) {
  tokens_.assign(q.tokens.begin(), q.tokens.end());
  s_.assign(q.q.begin(), q.q.end());
  r_.clear();
  double total = 0.0, inside = 0.0;
  for (const double probability : p.probability) total += probability;
  for (const int32_t token : tokens_) {
    r_.push_back(p.of(token));
    inside += r_.back();
  }
  outside_ = total - inside > kNothing * total ? total - inside : 0.0;
}

size_t Residual::index_of(int32_t token) const {
  return static_cast<size_t>(std::find(tokens_.begin(), tokens_.end(), token) - tokens_.begin());
}

double Residual::overlap(double weight) const {
  double sum = weight * outside_;
  for (size_t i = 0; i < r_.size(); ++i) sum += std::max(weight * r_[i] - s_[i], 0.0);
  return sum;
}

double Residual::cut(double weight) {
  const double sum = overlap(weight);
  if (!(sum > 0.0)) return 0.0;
  for (size_t i = 0; i < r_.size(); ++i) r_[i] = std::max(weight * r_[i] - s_[i], 0.0) / sum;
  outside_ *= weight / sum;
  return sum;
}

void Residual::exclude(size_t i) {
  s_[i] = 0.0;
  double left = 0.0;
  for (const double s : s_) left += s;
  for (double& s : s_) s = left > 0.0 ? s / left : 0.0;
}

void Residual::take(size_t i, double amount) { r_[i] = std::max(r_[i] - amount, 0.0); }

int32_t Residual::draw(const TokenLaw& p, Dice& dice) {
  weights_.assign(r_.begin(), r_.end());
  weights_.push_back(outside_);
  if (!(*std::max_element(weights_.begin(), weights_.end()) > 0.0)) return draw_token(p, dice);
  const size_t picked = dice.pick(weights_);
  if (picked < tokens_.size()) return tokens_[picked];
  // One of the others: p without the tokens of q.
  weights_ = p.probability;
  for (const int32_t token : tokens_) {
    const int64_t index = p.find(token);
    if (index >= 0) weights_[static_cast<size_t>(index)] = 0.0;
  }
  return p.token(dice.pick(weights_));
}

int32_t draw_token(const TokenLaw& p, Dice& dice) { return p.token(dice.pick(p.probability)); }

}  // namespace forerun
