#include "verify/gumbel.h"

#include <algorithm>
#include <cmath>

#include "backend/vocabulary.h"
#include "base/exact_math.h"
#include "verify/filters.h"

namespace forerun {
namespace {

// The leader so far. Rounded addition is monotone, so z + bound below the leader's score proves z +
// G is too; an equal sum is evaluated, since ties go to the lowest id.
class Race {
 public:
  Race(const GumbelDraw& draw, float best_logit, int32_t first)
      : draw_(draw), best_logit_(best_logit), token_(first) {
    score_ = gumbel_noise(draw.seed, draw.position, first);  // its scaled logit is 0
  }

  void enter(int32_t token, float logit) {
    const float z = scaled(logit, best_logit_, draw_.temperature);
    if (!(z + kMaxGumbel >= score_)) return;  // NaN leaves here
    if (z + gumbel_bound(random_bits(draw_.seed, draw_.position, token)) < score_) return;
    const float score = z + gumbel_noise(draw_.seed, draw_.position, token);
    if (score > score_ || (score == score_ && token < token_)) {
      score_ = score;
      token_ = token;
    }
  }

  int32_t winner() const { return token_; }
  float score() const { return score_; }

 private:
  const GumbelDraw& draw_;
  float best_logit_;
  float score_;
  int32_t token_;
};

}  // namespace

float gumbel_bound(uint32_t bits) { return exact::gumbel_bound(bits); }

int32_t GumbelDraw::among_all(std::span<const float> logits, int32_t best, float least_scaled,
                              int32_t before) const {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const VocabularyKernels& kernels = vocabulary_kernels();
  const auto count = static_cast<int64_t>(logits.size());
  const NoiseScan scan{logits.data(), count, logits[best], temperature,
                       least_scaled,  seed,  position};
  Race race(*this, logits[best], best);
  const auto run = [&](int64_t begin, int64_t end, float least) {
    for (int64_t id = begin; id < end; ++id) {
      id = kernels.find_contender(scan, id, end, least, race.score());
      if (id < end) race.enter(static_cast<int32_t>(id), logits[id]);
    }
  };
  // Equal logits rank by their ids.
  const float least = before < 0 ? -kInfinity : logits[before];
  run(0, std::max(before, 0), least);
  run(std::max(before, 0), count, before < 0 ? least : std::nextafter(least, kInfinity));
  return race.winner();
}

int32_t GumbelDraw::among(std::span<const float> logits, std::span<const int32_t> kept,
                          int32_t best) const {
  Race race(*this, logits[best], best);
  for (const int32_t id : kept) race.enter(id, logits[id]);
  return race.winner();
}

}  // namespace forerun
