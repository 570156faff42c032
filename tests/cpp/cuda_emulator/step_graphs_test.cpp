// Which sequences of launches are replayed (csrc/backend/cuda/step_graphs.h), on the emulated GPU.
#include "backend/cuda/step_graphs.h"

#include "cuda_emulator/emulator_test.h"

namespace forerun::emulated_test {
namespace {

__global__ void count_kernel(int* data, int by) {
  cuda::begin_kernel();
  data[threadIdx.x] += by;
}

struct Counted {
  OnDevice<int> data{std::vector<int>(4, 0)};
  cuda::StepGraphs graphs;
  void run(int by, unsigned threads = 4, unsigned blocks = 1) {
    graphs.run(
        [&] {
          emulated_test::run(count_kernel, dim3(blocks), dim3(threads), 0, data.data(), by);
          emulated_test::run(count_kernel, dim3(blocks), dim3(threads), 0, data.data(), 10 * by);
        },
        stream().get());
  }
};

TEST(StepGraphs, CapturesTheSecondTimeAndReplaysFromThenOn) {
  Counted counted;
  for (int i = 0; i < 4; ++i) counted.run(1);
  EXPECT_EQ(counted.data.values(), std::vector<int>(4, 44));
  EXPECT_EQ(counted.graphs.captures(), 1);
  EXPECT_EQ(counted.graphs.replays(), 3);
}

TEST(StepGraphs, TellsSequencesApartByGridsAndArguments) {
  Counted counted;
  for (int i = 0; i < 3; ++i) {
    counted.run(1);
    counted.run(2);
    counted.run(1, 2);
    counted.run(1, 2, 3);
  }
  EXPECT_EQ(counted.data.values(), (std::vector<int>{231, 231, 99, 99}));
  EXPECT_EQ(counted.graphs.captures(), 4);
}

TEST(StepGraphs, ForgetsTheSequenceThatWasUsedLongestAgo) {
  Counted counted;
  for (int by = 0; by < 70; ++by) counted.run(by);
  counted.run(69);
  EXPECT_EQ(counted.graphs.captures(), 1);
  counted.run(0);  // forgotten
  EXPECT_EQ(counted.graphs.captures(), 1);
  counted.run(0);
  EXPECT_EQ(counted.graphs.captures(), 2);
}

TEST(StepGraphs, GoesOnAfterWorkThatFails) {
  Counted counted;
  counted.run(1);
  int calls = 0;
  const auto work = [&](int fails_at) {
    counted.graphs.run(
        [&] {
          emulated_test::run(count_kernel, dim3(1), dim3(4), 0, counted.data.data(), 5);
          if (++calls == fails_at) throw Error(ErrorKind::kDevice, "on purpose");
        },
        stream().get());
  };
  EXPECT_THROW(work(1), Error);  // while noted
  work(0);
  EXPECT_THROW(work(5), Error);  // while captured
  work(0);
  EXPECT_EQ(counted.data.values(), std::vector<int>(4, 21));
}

}  // namespace
}  // namespace forerun::emulated_test
