#include "backend/cpu/kernel_choice.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "backend/cpu_fixture.h"

namespace forerun::test {
namespace {

void plain(const MatmulArgs& args) { kKernelsScalar.matmul.q4_k(args); }

// As a broken tile unit would: one bit of one output.
void wrong(const MatmulArgs& args) {
  plain(args);
  float& last = args.out[(args.rows - 1) * args.out_stride + args.outputs - 1];
  last = -last;
}

constexpr MatmulTable kSame = {.name = "same", .q4_k = plain};
constexpr MatmulTable kWrong = {.name = "wrong", .q4_k = wrong};

KernelChoice choice_with(const MatmulTable& other) {
  static ThreadPool pool(1);
  const MatmulTable* others[] = {&other};
  return {kKernelsScalar, others, pool};
}

TEST(KernelChoice, LeavesOutAKernelThatGivesOtherBits) {
  KernelChoice choice = choice_with(kWrong);
  choice.prefer("wrong");
  for (int32_t rows : {1, 8, 64}) {
    EXPECT_EQ(choice.kernel(DType::kQ4_K, rows), kKernelsScalar.matmul.q4_k);
  }
  EXPECT_EQ(choice.description(), "Q4_K: other bits with wrong, not used");
}

TEST(KernelChoice, TakesForEachNumberOfRowsTheKernelThatWasFaster) {
  KernelChoice choice = choice_with(kSame);
  EXPECT_EQ(choice.kernel(DType::kQ4_K, 64), kKernelsScalar.matmul.q4_k) << "before it is measured";
  std::map<int32_t, int> asked;
  choice.decide(DType::kQ4_K, [&](MatmulKernel kernel, int32_t rows) {
    ++asked[rows];
    return kernel == plain ? 3.0 + 0.5 * rows : 1.0 * rows;  // equal at 6 rows
  });
  for (int32_t rows = 1; rows <= 200; ++rows) {
    EXPECT_EQ(choice.kernel(DType::kQ4_K, rows) == plain, rows > 6) << rows;
  }
  EXPECT_EQ(asked[1], 2);
  EXPECT_EQ(choice.description(), "Q4_K: scalar up to 6 rows, same");
  const std::vector<KernelChoice::Use> uses = choice.uses(DType::kQ4_K);
  ASSERT_EQ(uses.size(), 2U);
  EXPECT_EQ(uses[0].rows, 6);
  EXPECT_EQ(uses[1].rows, 0);
  EXPECT_EQ(uses[1].table, "same");
}

TEST(KernelChoice, LeavesMoreRowsToAKernelThatIsTwiceAsFast) {
  KernelChoice choice = choice_with(kSame);
  int32_t most = 0;
  choice.decide(DType::kQ4_K, [&](MatmulKernel kernel, int32_t rows) {
    most = std::max(most, rows);
    return kernel == plain ? 1.0 + 0.1 * rows : rows;
  });
  EXPECT_EQ(most, 4);
  EXPECT_EQ(choice.kernel(DType::kQ4_K, 64), plain);
}

TEST(KernelChoice, NeedsMoreThanAHairsBreadth) {
  KernelChoice choice = choice_with(kSame);
  choice.decide(DType::kQ4_K,
                [](MatmulKernel kernel, int32_t) { return kernel == plain ? 0.98 : 1.0; });
  EXPECT_EQ(choice.kernel(DType::kQ4_K, 1), kKernelsScalar.matmul.q4_k);
  EXPECT_EQ(choice.description(), "Q4_K: scalar");
}

TEST(KernelChoice, HasNothingToSayOfOneKernel) {
  ThreadPool pool(1);
  KernelChoice choice(kKernelsScalar, {}, pool);
  choice.measure(DType::kQ4_K, pool);
  EXPECT_EQ(choice.description(), "");
  EXPECT_THROW(choice.kernel(DType::kI8, 1), Error);
}

// Two instruction sets as the candidates. Which of them wins is the machine's affair.
TEST(KernelChoice, MeasuresWhenAWeightOfATypeIsPackedFirst) {
  if (cpu_backend("avx512", 1) == nullptr) GTEST_SKIP() << "needs a CPU with AVX-512";
  CpuBackend backend(1, {"both", kKernelsAvx2, &kKernelsAvx512.matmul});
  EXPECT_EQ(backend.choice().description(), "");
  const RandomMatrix matrix(DType::kQ4_K, 16, 256, 3);
  backend.pack(matrix.host);
  const std::string chosen = backend.choice().description();
  EXPECT_EQ(chosen.rfind("Q4_K: avx", 0), 0U) << chosen;
  EXPECT_EQ(chosen.find("Q5_K"), std::string::npos) << chosen;
  backend.pack(matrix.host);
  EXPECT_EQ(backend.choice().description(), chosen) << "measured once";
  EXPECT_NE(backend.description().find("(" + chosen + ")"), std::string::npos);
}

TEST(KernelChoice, NamesAKernelForEveryTypeOfThisMachine) {
  std::map<DType, int> last;
  for (const KernelUse& use : cpu_kernel_uses(1)) {
    EXPECT_FALSE(use.kernel.empty());
    if (use.rows == 0) ++last[use.type];
  }
  EXPECT_EQ(last.size(), weight_types().size());
  for (const DType type : weight_types()) EXPECT_EQ(last[type], 1);
}

}  // namespace
}  // namespace forerun::test
