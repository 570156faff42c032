#include "sched/account.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace forerun {
namespace {

TEST(Account, StartsAlmostEmptyAndFillsWithTheAnswer) {
  Account account;
  EXPECT_LE(account.stake(), 1.0);
  for (int i = 0; i < 20; ++i) account.settle(1, 1.0);
  EXPECT_LE(account.stake(), 1.6);
  for (int i = 0; i < 180; ++i) account.settle(1, 1.0);
  EXPECT_GT(account.stake(), 2.5);
  for (int i = 0; i < 1000; ++i) account.settle(50, 1.0);
  EXPECT_LE(account.stake(), Account::kMost + Account::kDebt);
}

TEST(Account, IsClosedBelowZeroUntilTokensPayForIt) {
  Account account;
  account.settle(1, 2.5);
  EXPECT_FALSE(account.open());
  EXPECT_EQ(account.stake(), 0.0);
  EXPECT_EQ(account.starting_stake(), 0.0);
  int tokens = 0;
  while (!account.open()) account.settle(1, 1.0), ++tokens;
  EXPECT_GT(tokens, 20);
  EXPECT_LT(tokens, 200);
}

TEST(Account, WhatIsStakedWithinItNeverLosesMoreThanThreePercentOfTwoHundredTokens) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    Account account;
    std::vector<double> lost;  // per token
    while (lost.size() < 1000) {
      double staked = 0.0;
      if (random() % 3 != 0) {
        const bool starts = random() % 8 == 0;
        const double most = starts ? account.starting_stake() : account.stake();
        staked = most * static_cast<double>(random() % 5) / 4;
        if (starts) account.bring_forward(staked - account.stake());
      }
      const bool wins = (lost.size() / 100) % 2 == 1;
      const int32_t tokens = wins ? 8 : 1;
      account.settle(tokens, 1.0 + staked);
      lost.insert(lost.end(), static_cast<size_t>(tokens), (1.0 + staked - tokens) / tokens);
    }
    double in_window = 0.0;
    for (size_t i = 0; i < lost.size(); ++i) {
      in_window += lost[i] - (i >= 200 ? lost[i - 200] : 0.0);
      if (i >= 200) {
        ASSERT_LE(in_window, 6.0);
      }
    }
  }
}

}  // namespace
}  // namespace forerun
