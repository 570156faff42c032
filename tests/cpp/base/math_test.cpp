#include "base/math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace forerun {
namespace {

constexpr double kBound = 8 * 3e-16;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(ExactExp, IsWithinItsBoundOfLongDouble) {
  std::mt19937_64 generator(1);
  std::uniform_real_distribution<double> wide(-708.0, 709.7);
  std::uniform_real_distribution<double> narrow(-2.0, 2.0);
  for (int i = 0; i < 200000; ++i) {
    const double x = i % 2 == 0 ? wide(generator) : narrow(generator);
    const long double want = std::exp(static_cast<long double>(x));
    ASSERT_LE(std::fabs((exact_exp(x) - want) / want), kBound) << x;
  }
}

TEST(ExactExp, KnowsItsLimits) {
  EXPECT_EQ(exact_exp(0.0), 1.0);
  EXPECT_EQ(exact_exp(-0.0), 1.0);
  EXPECT_EQ(exact_exp(-708.1), 0.0);
  EXPECT_EQ(exact_exp(-kInfinity), 0.0);
  EXPECT_GT(exact_exp(-708.0), 0.0);
  EXPECT_TRUE(std::isfinite(exact_exp(709.78)));
  EXPECT_EQ(exact_exp(709.79), kInfinity);
  EXPECT_EQ(exact_exp(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(exact_exp(std::nan(""))));
}

TEST(ExactLog, IsWithinItsBoundOfLongDouble) {
  std::mt19937_64 generator(2);
  std::uniform_real_distribution<double> exponent(-1074.0, 1023.9);
  std::uniform_real_distribution<double> near_one(0.5, 2.0);
  for (int i = 0; i < 200000; ++i) {
    double x = i % 2 == 0 ? std::exp2(exponent(generator)) : near_one(generator);
    if (i % 100 == 1) x = 1.0 + (near_one(generator) - 1.0) * 1e-9;
    const long double want = std::log(static_cast<long double>(x));
    if (want == 0) continue;
    ASSERT_LE(std::fabs((exact_log(x) - want) / want), kBound) << x;
  }
}

TEST(ExactLog, KnowsItsLimits) {
  EXPECT_EQ(exact_log(1.0), 0.0);
  EXPECT_EQ(exact_log(0.0), -kInfinity);
  EXPECT_EQ(exact_log(-0.0), -kInfinity);
  EXPECT_EQ(exact_log(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(exact_log(-1.0)));
  EXPECT_TRUE(std::isnan(exact_log(std::nan(""))));
  EXPECT_NEAR(exact_log(std::numeric_limits<double>::denorm_min()), -744.4400719213812, 1e-12);
}

}  // namespace
}  // namespace forerun
