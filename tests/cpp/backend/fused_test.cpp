// Operations in one that a step could also do one after the other: the same bits.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "backend/cpu_fixture.h"

namespace forerun::test {
namespace {

// Enough panels for runs of several lengths on several threads; the last is not full.
constexpr int32_t kOutputs = 1530, kInputs = 256;

struct Product {
  std::unique_ptr<Weight> weight;
  std::vector<float> bias, out;
  LinearTask task(int32_t rows) {
    return {weight.get(), bias.data(), Tensor(out.data(), rows, weight->rows)};
  }
};

Product product(Backend& backend, DType dtype, int32_t outputs, int32_t rows, uint64_t seed) {
  Product one;
  one.weight = backend.pack(RandomMatrix(dtype, outputs, kInputs, seed).host);
  one.bias = random_floats(static_cast<size_t>(outputs), seed + 1);
  one.out.resize(static_cast<size_t>(rows) * static_cast<size_t>(outputs), -1.0F);
  return one;
}

TEST(CpuFused, GatedLinearHasTheBitsOfTwoProductsAndSwiglu) {
  for (const auto& [gate_type, up_type] :
       {std::pair{DType::kQ4_K, DType::kQ4_K}, std::pair{DType::kQ4_1, DType::kQ6_K},
        std::pair{DType::kF16, DType::kQ8_0}}) {
    for (const int32_t rows : {1, 6, 19}) {
      std::vector<float> x = random_floats(static_cast<size_t>(rows * kInputs), 3);
      const Tensor input(x.data(), rows, kInputs);
      for (const std::string& isa : matmul_sets()) {
        for (int threads = 1; threads <= 3; ++threads) {
          if (isa == "scalar" && (rows != 6 || threads != 2)) continue;
          const auto backend = cpu_backend(isa, threads);
          Product gate = product(*backend, gate_type, kOutputs, rows, 5);
          Product up = product(*backend, up_type, kOutputs, rows, 7);
          const LinearTask tasks[] = {gate.task(rows), up.task(rows)};
          backend->linear(input, tasks);
          backend->swiglu(tasks[0].out, tasks[1].out, tasks[0].out);
          const std::vector<float> expected = std::exchange(gate.out, up.out);
          backend->gated_linear(input, gate.task(rows), up.task(rows));
          ASSERT_TRUE(same_bits(gate.out.data(), expected.data(), expected.size()))
              << isa << ", " << threads << " threads, " << rows << " rows";
        }
      }
    }
  }
}

TEST(CpuFused, AddRmsNormHasTheBitsOfBoth) {
  for (const int32_t cols : {16, 100, 1536}) {
    for (const int32_t rows : {1, 20}) {
      const auto size = static_cast<size_t>(rows * cols);
      const std::vector<float> x = random_floats(size, 3), y = random_floats(size, 4);
      const std::vector<float> weight = random_floats(static_cast<size_t>(cols), 5);
      for (const std::string& isa : kernel_sets()) {
        const auto backend = cpu_backend(isa, 2);
        std::vector<float> sum = x, other = y, fused = x, out(size), fused_out(size);
        const Tensor addend(other.data(), rows, cols);
        backend->add(Tensor(sum.data(), rows, cols), addend);
        backend->rms_norm(Tensor(sum.data(), rows, cols), weight.data(), 1e-5F,
                          Tensor(out.data(), rows, cols));
        backend->add_rms_norm(Tensor(fused.data(), rows, cols), addend, weight.data(), 1e-5F,
                              Tensor(fused_out.data(), rows, cols));
        EXPECT_TRUE(same_bits(fused.data(), sum.data(), size)) << isa;
        EXPECT_TRUE(same_bits(fused_out.data(), out.data(), size)) << isa;
      }
    }
  }
}

TEST(CpuFused, TasksOfManyPanelsAreSplitAmongThreadsWithoutGaps) {
  constexpr int32_t kRows = 2;
  std::vector<float> x = random_floats(kRows * kInputs, 9);
  const Tensor input(x.data(), kRows, kInputs);
  for (int threads = 1; threads <= 4; ++threads) {
    const auto backend = make_cpu_backend(threads);
    Product a = product(*backend, DType::kQ4_K, kOutputs, kRows, 11);
    Product b = product(*backend, DType::kQ4_0, 16, kRows, 13);
    Product c = product(*backend, DType::kF32, 2000, kRows, 15);
    std::vector<std::vector<float>> expected;
    for (Product* one : {&a, &b, &c}) {
      const LinearTask task = one->task(kRows);
      backend->linear(input, {&task, 1});
      expected.push_back(std::exchange(one->out, std::vector<float>(one->out.size(), -1.0F)));
    }
    for (int repeat = 0; repeat < 10; ++repeat) {
      const LinearTask tasks[] = {a.task(kRows), b.task(kRows), c.task(kRows)};
      backend->linear(input, tasks);
      EXPECT_EQ(a.out, expected[0]) << threads;
      EXPECT_EQ(b.out, expected[1]) << threads;
      EXPECT_EQ(c.out, expected[2]) << threads;
    }
  }
}

TEST(CpuFused, RefusesShapesThatDisagree) {
  const auto backend = make_cpu_backend(1);
  Product gate = product(*backend, DType::kF32, 32, 1, 1);
  Product up = product(*backend, DType::kF32, 16, 1, 2);
  std::vector<float> x(kInputs), y(kInputs + 1);
  const Tensor input(x.data(), 1, kInputs);
  EXPECT_THROW(backend->gated_linear(input, gate.task(1), up.task(1)), Error);
  EXPECT_THROW(
      backend->add_rms_norm(input, Tensor(y.data(), 1, kInputs + 1), x.data(), 1e-5F, input),
      Error);
}

}  // namespace
}  // namespace forerun::test
