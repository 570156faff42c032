#include "sched/calibration.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <vector>

namespace forerun {
namespace {

constexpr DraftSource kModel = DraftSource::kModel;

TEST(Calibration, BeginsWithTheScoreItself) {
  const Calibration all;
  const LocalCalibration local;
  for (const float score : {0.0F, 0.2F, 0.7F, 1.0F}) {
    EXPECT_NEAR(all.acceptance(kModel, score, 1), score, 1e-6);
    EXPECT_NEAR(local.acceptance(all, kModel, score, 3), score, 1e-6);
  }
}

TEST(Calibration, FindsTheAcceptanceOfEachScoreAndDepth) {
  std::mt19937 random(1);
  Calibration all;
  LocalCalibration local;
  const auto truth = [](float score, int32_t depth) {
    return (0.1 + 0.8 * score * score) / (depth > 4 ? 2 : 1);
  };
  const std::vector<float> scores = {0.05F, 0.2F, 0.45F, 0.7F, 0.9F, 0.99F};
  std::map<std::pair<float, int32_t>, double> average;
  for (int i = 0; i < 60000; ++i) {
    const float score = scores[random() % scores.size()];
    const int32_t depth = 1 + static_cast<int32_t>(random() % 8);
    const bool accepted = std::bernoulli_distribution(truth(score, depth))(random);
    local.add(all, kModel, score, depth, accepted);
    if (i % 100 != 0 || i < 10000) continue;
    for (const float s : scores) {
      for (const int32_t d : {1, 6}) average[{s, d}] += local.acceptance(all, kModel, s, d) / 500;
    }
  }
  for (const auto& [key, found] : average) {
    EXPECT_NEAR(found, truth(key.first, key.second), 0.07) << key.first << " " << key.second;
  }
  EXPECT_NEAR(all.acceptance(DraftSource::kNgram, 0.2F, 1), 0.2, 1e-6);  // another source
}

TEST(Calibration, ADepthWithoutEvidenceFollowsItsScore) {
  Calibration all;
  for (int i = 0; i < 100; ++i) all.add(kModel, 0.9F, 1, false);
  EXPECT_LT(all.acceptance(kModel, 0.9F, 9), 0.1);
  EXPECT_NEAR(all.acceptance(kModel, 0.5F, 9), 0.5, 1e-6);
}

TEST(Calibration, ASequenceKnowsWhatOthersLearnedAndSoonWhatIsTrueOfItself) {
  Calibration all;
  auto first = std::make_unique<LocalCalibration>();
  for (int i = 0; i < 200; ++i) first->add(all, kModel, 0.9F, 1, true);
  LocalCalibration second;
  EXPECT_GT(second.acceptance(all, kModel, 0.9F, 1), 0.95);
  for (int i = 0; i < 20; ++i) second.add(all, kModel, 0.9F, 1, false);
  EXPECT_LT(second.acceptance(all, kModel, 0.9F, 1), 0.4);
  EXPECT_GT(first->acceptance(all, kModel, 0.9F, 1), 0.8);
}

TEST(Calibration, ForgetsOldText) {
  Calibration all;
  for (int i = 0; i < 100000; ++i) all.add(kModel, 0.9F, 1, true);
  for (int i = 0; i < 300; ++i) all.add(kModel, 0.9F, 1, false);
  EXPECT_LT(all.acceptance(kModel, 0.9F, 1), 0.2);
}

}  // namespace
}  // namespace forerun
