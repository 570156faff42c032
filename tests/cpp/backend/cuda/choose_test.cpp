// Tokens chosen on the GPU are those of the CPU's sampler, bit for bit: greedy, with noise, and
// with the filters that the GPU has.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "backend/cuda/fixture.h"
#include "backend/vocabulary.h"
#include "base/error.h"
#include "base/random.h"
#include "verify/sampler.h"

namespace forerun::cuda_test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Case {
  Sampling sampling;
  uint64_t seed = 0;
  int64_t position = 0;
};

// What each row's own sampler would draw, from the logits that lie on the GPU.
void compare(Backend& gpu, const std::vector<float>& logits, int32_t vocab,
             const std::vector<Case>& cases) {
  const auto rows = static_cast<int32_t>(cases.size());
  const Rows on_gpu(gpu, logits, rows);
  std::vector<TokenDraw> draws;
  std::vector<int32_t> wanted, found(cases.size(), -7);
  for (int32_t row = 0; row < rows; ++row) {
    const Case& one = cases[static_cast<size_t>(row)];
    Sampler sampler(one.sampling, one.seed, vocab);
    draws.push_back(*sampler.draw(one.position));
    const std::span all(logits);
    wanted.push_back(
        sampler.sample(all.subspan(static_cast<size_t>(row) * static_cast<size_t>(vocab),
                                   static_cast<size_t>(vocab)),
                       one.position));
  }
  gpu.choose(on_gpu.tensor, draws, found);
  EXPECT_EQ(found, wanted) << vocab << " tokens";
}

std::vector<Case> many_cases(int32_t count) {
  std::vector<Case> cases;
  for (int32_t i = 0; i < count; ++i) {
    Sampling sampling;
    sampling.temperature = std::array{0.0F, 0.3F, 1.0F, 2.5F}[static_cast<size_t>(i % 4)];
    sampling.min_p = i % 3 == 1 ? 0.05F : 0.0F;
    sampling.top_k = i % 5 == 2 ? 1 + i : 0;
    sampling.top_p = i % 2 == 0 ? 0.8F : i % 7 == 3 ? 0.3F : 1.0F;
    cases.push_back({sampling, static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15ULL, i * 3000000000LL});
  }
  return cases;
}

TEST_F(Cuda, ChoosesTheTokensOfTheSampler) {
  for (const int32_t vocab : {5, 63, 4096, emulated() ? 9001 : 50257}) {
    const std::vector<Case> cases = many_cases(vocab < 5000 || !emulated() ? 40 : 12);
    compare(gpu(), random_floats(static_cast<int64_t>(cases.size()) * vocab, 31, 3.0F), vocab,
            cases);
  }
}

// Every logit the same: noise alone decides, and at temperature 0 the lowest id.
TEST_F(Cuda, ChoosesByNoiseAloneWhereLogitsAreEqual) {
  constexpr int32_t kVocab = 9000;
  const std::vector<Case> cases = many_cases(24);
  compare(gpu(), std::vector<float>(cases.size() * kVocab, -1.5F), kVocab, cases);
}

// Of equal tokens the lowest; and p is reached by the tokens before one, not with it: of 16, eight
// are kept, and no token beside the best where min-p is 1.
TEST_F(Cuda, ChoosesTheTokensOfTheSamplerWhereNumbersAreEqual) {
  std::vector<Case> cases;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    cases.push_back({Sampling{.temperature = 1.0F, .top_p = 0.5F}, seed, 3});
    cases.push_back({Sampling{.temperature = 1.0F, .top_k = 4, .top_p = 0.5F}, seed, 3});
  }
  compare(gpu(), std::vector<float>(cases.size() * 16, 2.0F), 16, cases);
  for (Case& one : cases) one.sampling = {.temperature = 1.0F, .min_p = 1.0F};
  std::vector<float> logits(cases.size() * 16, 2.0F);
  for (size_t i = 0; i < logits.size(); i += 3) logits[i] = 1.9999F;
  compare(gpu(), logits, 16, cases);
}

// Two tokens whose sums with their noise are the same number, the lower id once the better logit
// and once the other.
TEST_F(Cuda, ChoosesTheLowerOfTwoTokensThatReachTheSame) {
  constexpr int32_t kVocab = 40;
  std::vector<Case> cases;
  std::vector<float> logits;
  for (uint64_t seed = 0; cases.size() < 40 && seed < 4000; ++seed) {
    const auto best = static_cast<int32_t>(seed % 2 == 0 ? 3 : 31), other = 34 - best;
    const float wanted = gumbel_noise(seed, 5, best), noise = gumbel_noise(seed, 5, other);
    const float z = wanted - noise;
    if (!(z < 0.0F) || z + noise != wanted) continue;
    std::vector<float> row(kVocab, -100.0F);
    row[static_cast<size_t>(best)] = 0.0F;
    row[static_cast<size_t>(other)] = z;
    logits.insert(logits.end(), row.begin(), row.end());
    cases.push_back({Sampling{.temperature = 1.0F}, seed, 5});
  }
  ASSERT_EQ(cases.size(), 40U);
  compare(gpu(), logits, kVocab, cases);
}

// Whether the winner of the race stays is decided by sums of floats: with p at the very share of
// the tokens before it, and one or two numbers beside, any other order of adding shows.
TEST_F(Cuda, KeepsUnderTopPWhatTheSamplerKeepsToTheLastBit) {
  constexpr int32_t kVocab = 2500, kRows = 12;
  const std::vector<float> logits = random_floats(int64_t{kRows} * kVocab, 35, 2.0F);
  std::vector<Case> cases;
  std::vector<float> repeated;
  for (int32_t row = 0; row < kRows; ++row) {
    const std::span all = std::span(logits).subspan(static_cast<size_t>(row) * kVocab, kVocab);
    Sampling sampling{.temperature = 1.3F};
    const auto seed = static_cast<uint64_t>(row);
    const int32_t winner = Sampler(sampling, seed, kVocab).sample(all, 9);
    NoiseScan scan{all.data(), kVocab, *std::max_element(all.begin(), all.end()), 1.3F};
    const auto mass = vocabulary_kernels().mass;
    const Mass before = mass(scan, 0, winner, all[static_cast<size_t>(winner)]),
               after = mass(scan, winner, kVocab,
                            std::nextafter(all[static_cast<size_t>(winner)], kInfinity));
    const auto share = (before.above + after.above) / (before.total + after.total);
    if (share == 0.0) continue;  // the best token stays anyway
    float p = static_cast<float>(share);
    for (int i = 0; i < 2; ++i) p = std::nextafter(p, 0.0F);
    for (int i = 0; i < 5; ++i, p = std::nextafter(p, 1.0F)) {
      sampling.top_p = p;
      cases.push_back({sampling, seed, 9});
      repeated.insert(repeated.end(), all.begin(), all.end());
    }
  }
  ASSERT_GT(cases.size(), 40U);
  compare(gpu(), repeated, kVocab, cases);
}

TEST_F(Cuda, ChoosesAValidTokenFromLogitsThatAreNoNumbers) {
  constexpr int32_t kVocab = 300;
  std::vector<Case> cases;
  for (const auto& [temperature, top_p] : {std::pair{0.0F, 1.0F}, {1.0F, 1.0F}, {1.0F, 0.5F}}) {
    for (uint64_t seed = 0; seed < 6; ++seed) {
      cases.push_back({Sampling{.temperature = temperature, .top_p = top_p}, seed, 17});
    }
  }
  std::vector<float> logits = random_floats(static_cast<int64_t>(cases.size()) * kVocab, 33, 2.0F);
  for (size_t row = 0; row < cases.size(); ++row) {
    float* at = logits.data() + row * kVocab;
    switch (row % 6) {
      case 0:  // nothing can be chosen
        std::fill(at, at + kVocab, -kInfinity);
        break;
      case 1:
        std::fill(at, at + kVocab, std::nanf(""));
        break;
      case 2:
        at[200] = kInfinity;
        break;
      case 3:
        std::fill(at, at + kVocab, -kInfinity);
        at[299] = -3.0F;
        break;
      case 4:
        for (int i = 0; i < kVocab; i += 2) at[i] = std::nanf("");
        break;
      default:
        std::fill(at, at + kVocab, 0.0F);
        at[0] = -0.0F;
    }
  }
  compare(gpu(), logits, kVocab, cases);
}

TEST_F(Cuda, LeavesToTheHostWhatItCannotChoose) {
  const Rows logits(gpu(), random_floats(2 * 2000, 3), 2);
  std::vector<int32_t> tokens(2);
  const auto chooses = [&](const Sampling& sampling) {
    Sampler sampler(sampling, 1, 2000);
    const std::vector<TokenDraw> draws = {*sampler.draw(1), *Sampler({}, 1, 2000).draw(1)};
    const bool can = gpu().can_choose(draws[0], 2000);
    if (!can) {
      EXPECT_THROW(gpu().choose(logits.tensor, draws, tokens), Error);
    }
    return can;
  };
  EXPECT_TRUE(chooses({.temperature = 1.0F, .top_k = 1024, .top_p = 0.9F}));
  EXPECT_FALSE(chooses({.temperature = 1.0F, .top_k = 1025}));
  EXPECT_TRUE(chooses({.temperature = 1.0F, .top_p = 0.9F}));
  EXPECT_TRUE(chooses({.temperature = 0.0F, .top_k = 1025, .top_p = 0.9F}));
}

}  // namespace
}  // namespace forerun::cuda_test
