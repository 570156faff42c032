#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "backend/cpu_fixture.h"
#include "backend/linear_oracle.h"

namespace forerun::test {
namespace {

struct Shape {
  int64_t rows, cols;
};

std::vector<Shape> shapes_of(DType dtype) {
  const bool k_type = dtype == DType::kQ4_K || dtype == DType::kQ5_K || dtype == DType::kQ6_K;
  if (k_type) return {{17, 256}, {48, 768}, {5, 2560}};
  if (is_quantized(dtype)) return {{17, 32}, {48, 576}, {5, 1056}};
  return {{17, 1}, {48, 67}, {5, 300}};
}

std::vector<float> run(Backend& backend, const Weight& weight, std::vector<float>& x, int32_t rows,
                       const float* bias = nullptr) {
  std::vector<float> out(static_cast<size_t>(rows) * static_cast<size_t>(weight.rows), -1.0F);
  LinearTask task;
  task.weight = &weight;
  task.bias = bias;
  task.out = Tensor(out.data(), rows, weight.rows);
  backend.linear(Tensor(x.data(), rows, weight.cols), {&task, 1});
  return out;
}

class LinearOfType : public testing::TestWithParam<DType> {};
std::string name_of(const testing::TestParamInfo<DType>& info) {
  return std::string(dtype_info(info.param).name);
}
INSTANTIATE_TEST_SUITE_P(Types, LinearOfType, testing::ValuesIn(weight_types()), name_of);

TEST_P(LinearOfType, EqualsTheContractsArithmeticAndStaysInItsErrorBound) {
  for (const Shape& shape : shapes_of(GetParam())) {
    const RandomMatrix matrix(GetParam(), shape.rows, shape.cols, 7);
    std::vector<float> x = random_floats(3 * static_cast<size_t>(shape.cols), 11, 2.0F);
    const std::vector<float> bias = random_floats(static_cast<size_t>(shape.rows), 12);
    for (const std::string& isa : matmul_sets()) {
      const auto backend = cpu_backend(isa, 1);
      const auto weight = backend->pack(matrix.host);
      const std::vector<float> out = run(*backend, *weight, x, 3, bias.data());
      for (int64_t i = 0; i < 3 * shape.rows; ++i) {
        const int64_t output = i % shape.rows;
        const Product want = product(matrix.host, output, x.data() + i / shape.rows * shape.cols);
        const float found = out[static_cast<size_t>(i)];
        const float expected = want.exact + bias[static_cast<size_t>(output)];
        ASSERT_EQ(found, expected)
            << isa << " output " << i << " of " << shape.rows << " x " << shape.cols;
        ASSERT_NEAR(want.exact, want.value, want.allowed);
      }
    }
  }
}

TEST_P(LinearOfType, GivesTheSameBitsForEveryBatchThreadCountAndInstructionSet) {
  std::vector<int32_t> batches;
  for (int32_t m = 1; m <= 33; ++m) batches.push_back(m);
  for (int32_t m : {40, 47, 48, 49, 63, 64, 65, 67}) batches.push_back(m);
  for (const Shape& shape : shapes_of(GetParam())) {
    const RandomMatrix matrix(GetParam(), shape.rows, shape.cols, 21);
    std::vector<float> x = random_floats(67 * static_cast<size_t>(shape.cols), 22);
    std::vector<float> expected;
    for (const std::string& isa : matmul_sets()) {
      for (int threads = 1; threads <= 3; ++threads) {
        const auto backend = cpu_backend(isa, threads);
        const auto weight = backend->pack(matrix.host);
        if (expected.empty()) {
          for (int64_t row = 0; row < 67; ++row) {
            std::vector<float> one(x.begin() + row * shape.cols,
                                   x.begin() + (row + 1) * shape.cols);
            const std::vector<float> out = run(*backend, *weight, one, 1);
            expected.insert(expected.end(), out.begin(), out.end());
          }
        }
        for (int32_t m : batches) {
          if (isa == "scalar" && m > 9 && m != 64 && m % 8 != 3) continue;
          const std::vector<float> out = run(*backend, *weight, x, m);
          ASSERT_TRUE(same_bits(out.data(), expected.data(), out.size()))
              << isa << " threads " << threads << " M " << m << " cols " << shape.cols;
        }
      }
    }
  }
}

TEST_P(LinearOfType, SurvivesInputsThatAreNotFinite) {
  const Shape shape = shapes_of(GetParam())[1];
  const RandomMatrix matrix(GetParam(), shape.rows, shape.cols, 31);
  std::vector<float> x = random_floats(4 * static_cast<size_t>(shape.cols), 32);
  x[3] = std::numeric_limits<float>::quiet_NaN();
  x[static_cast<size_t>(shape.cols) + 5] = std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < shape.cols; ++i) x[static_cast<size_t>(2 * shape.cols + i)] = 1e-41F;
  for (const std::string& isa : matmul_sets()) {
    const auto backend = cpu_backend(isa, 1);
    const auto weight = backend->pack(matrix.host);
    const std::vector<float> out = run(*backend, *weight, x, 4);
    const auto n = static_cast<size_t>(shape.rows);
    EXPECT_TRUE(std::isnan(out[0])) << isa;
    EXPECT_FALSE(std::isfinite(out[n])) << isa;
    for (size_t i = 2 * n; i < 3 * n; ++i) EXPECT_NEAR(out[i], 0.0F, 1e-30F) << isa;
    for (int64_t i = 0; i < shape.rows; ++i) {
      const Product want = product(matrix.host, i, x.data() + 3 * shape.cols);
      EXPECT_EQ(out[3 * n + static_cast<size_t>(i)], want.exact) << "the neighbours of a bad row";
    }
  }
}

TEST(Linear, TakesTheMostNegativeCodesOfQ8WithoutSaturating) {
  RandomMatrix matrix(DType::kQ8_0, 16, 64, 41);
  for (size_t block = 0; block < matrix.bytes.size(); block += 34) {
    for (size_t i = 2; i < 34; ++i) matrix.bytes[block + i] = std::byte{0x80};
  }
  std::vector<float> x(64, 3.0F);
  for (size_t i = 1; i < x.size(); i += 3) x[i] = -3.0F;
  for (const std::string& isa : matmul_sets()) {
    const auto backend = cpu_backend(isa, 1);
    const auto weight = backend->pack(matrix.host);
    const std::vector<float> out = run(*backend, *weight, x, 1);
    for (int64_t i = 0; i < 16; ++i) {
      EXPECT_EQ(out[static_cast<size_t>(i)], product(matrix.host, i, x.data()).exact) << isa;
    }
  }
}

TEST(Linear, RunsSeveralTasksOfDifferentTypesTogether) {
  const RandomMatrix a(DType::kQ4_K, 40, 512, 51);
  const RandomMatrix b(DType::kQ8_0, 24, 512, 52);
  const RandomMatrix c(DType::kF16, 8, 512, 53);
  std::vector<float> x = random_floats(5 * 512, 54);
  for (const std::string& isa : matmul_sets()) {
    const auto backend = cpu_backend(isa, 2);
    std::vector<std::unique_ptr<Weight>> weights;
    for (const RandomMatrix* matrix : {&a, &b, &c}) weights.push_back(backend->pack(matrix->host));
    std::vector<std::vector<float>> together;
    std::vector<LinearTask> tasks;
    for (const auto& weight : weights) {
      together.emplace_back(5 * static_cast<size_t>(weight->rows));
      tasks.push_back({weight.get(), nullptr, Tensor(together.back().data(), 5, weight->rows)});
    }
    backend->linear(Tensor(x.data(), 5, 512), tasks);
    for (size_t i = 0; i < weights.size(); ++i)
      EXPECT_EQ(together[i], run(*backend, *weights[i], x, 5));
  }
}

TEST(Linear, IgnoresTheFloatingPointModeOfTheCaller) {
  const RandomMatrix matrix(DType::kF32, 16, 4, 61);
  std::vector<float> x = {1e-39F, -1e-39F, 3e-39F, 1e-39F};
  const auto backend = cpu_backend("scalar", 1);
  const auto weight = backend->pack(matrix.host);
  const std::vector<float> expected = run(*backend, *weight, x, 1);
#if defined(__x86_64__)
  const unsigned saved = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(saved | 0x8040);
  const std::vector<float> found = run(*backend, *weight, x, 1);
  __builtin_ia32_ldmxcsr(saved);
  EXPECT_TRUE(same_bits(found.data(), expected.data(), found.size()));
#endif
  EXPECT_EQ(expected[0], product(matrix.host, 0, x.data()).exact);
}

TEST(Linear, RefusesShapesItCannotHold) {
  const auto backend = cpu_backend("scalar", 1);
  HostMatrix matrix;
  std::vector<std::byte> bytes(4096);
  matrix.data = bytes.data();
  matrix.dtype = DType::kQ4_K;
  matrix.rows = 2;
  matrix.cols = 288;
  EXPECT_THROW(backend->pack(matrix), Error);
  matrix.dtype = DType::kI8;
  matrix.cols = 256;
  EXPECT_THROW(backend->pack(matrix), Error);
  const RandomMatrix good(DType::kF32, 4, 8, 71);
  const auto weight = backend->pack(good.host);
  std::vector<float> x(9);
  std::vector<float> out(4);
  LinearTask task{weight.get(), nullptr, Tensor(out.data(), 1, 4)};
  EXPECT_THROW(backend->linear(Tensor(x.data(), 1, 9), {&task, 1}), Error);
}

}  // namespace
}  // namespace forerun::test
