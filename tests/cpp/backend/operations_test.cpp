#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "backend/cpu/memory.h"
#include "backend/cpu_fixture.h"

namespace forerun::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

// Runs `operation` on every instruction set and 1..3 threads; all results must have the same bits.
// Returns them.
template <typename Operation>
std::vector<float> on_every_backend(Operation operation) {
  std::vector<float> expected;
  for (const std::string& isa : kernel_sets()) {
    for (int threads = 1; threads <= 3; ++threads) {
      const auto backend = cpu_backend(isa, threads);
      const std::vector<float> found = operation(*backend);
      if (expected.empty()) expected = found;
      EXPECT_TRUE(same_bits(found.data(), expected.data(), found.size()))
          << isa << ", " << threads << " threads";
    }
  }
  return expected;
}

TEST(CpuOperations, RmsNormFollowsTheDefinitionInDouble) {
  for (int32_t cols : {1, 15, 16, 100, 1536}) {
    std::vector<float> x = random_floats(static_cast<size_t>(20 * cols), 3, 5.0F);
    const std::vector<float> weight = random_floats(static_cast<size_t>(cols), 4);
    const std::vector<float> out = on_every_backend([&](Backend& backend) {
      std::vector<float> copy = x;
      const Tensor rows(copy.data(), 20, cols);
      backend.rms_norm(rows, weight.data(), 1e-5F, rows);
      return copy;
    });
    for (size_t i = 0; i < out.size(); ++i) {
      const size_t first = i / static_cast<size_t>(cols) * static_cast<size_t>(cols);
      double squares = 0.0;
      for (size_t k = first; k < first + static_cast<size_t>(cols); ++k)
        squares += double{x[k]} * x[k];
      const double want = x[i] / std::sqrt(squares / cols + 1e-5) * weight[i - first];
      ASSERT_NEAR(out[i], want, std::fabs(want) * 1e-6 + 1e-9);
    }
  }
}

TEST(CpuOperations, HeadNormIsRmsNormOfEveryHead) {
  const std::vector<float> x = random_floats(6 * 4 * 24, 5);
  const std::vector<float> weight = random_floats(24, 6);
  const std::vector<float> heads = on_every_backend([&](Backend& backend) {
    std::vector<float> copy = x;
    backend.head_norm(Tensor(copy.data(), 6, 96), 4, weight.data(), 1e-6F);
    return copy;
  });
  const auto backend = cpu_backend("scalar", 1);
  std::vector<float> rows = x;
  backend->rms_norm(Tensor(rows.data(), 24, 24), weight.data(), 1e-6F, Tensor(rows.data(), 24, 24));
  EXPECT_EQ(heads, rows);
}

TEST(CpuOperations, RopeRotatesPairsAndLeavesTheRestAlone) {
  struct Case {
    int32_t heads, head_dim, rotary;
    bool interleaved;
  };
  for (const Case& c : {Case{3, 64, 64, false}, Case{2, 80, 20, false}, Case{2, 128, 96, true},
                        Case{1, 6, 6, true}}) {
    const std::vector<float> x = random_floats(static_cast<size_t>(5 * c.heads * c.head_dim), 7);
    std::vector<float> cos_sin(static_cast<size_t>(5 * c.rotary));
    const auto angle = [&](int32_t row, int32_t i) { return 0.3 * row + 1.7 * i; };
    for (int32_t row = 0; row < 5; ++row) {
      for (int32_t i = 0; i < c.rotary / 2; ++i) {
        cos_sin[static_cast<size_t>(row * c.rotary + i)] =
            static_cast<float>(std::cos(angle(row, i)));
        cos_sin[static_cast<size_t>(row * c.rotary + c.rotary / 2 + i)] =
            static_cast<float>(std::sin(angle(row, i)));
      }
    }
    const std::vector<float> out = on_every_backend([&](Backend& backend) {
      std::vector<float> copy = x;
      backend.rope(Tensor(copy.data(), 5, c.heads * c.head_dim), c.heads,
                   Tensor(cos_sin.data(), 5, c.rotary), c.interleaved);
      return copy;
    });
    for (int32_t row = 0; row < 5; ++row) {
      for (int32_t head = 0; head < c.heads; ++head) {
        const auto at = static_cast<size_t>((row * c.heads + head) * c.head_dim);
        for (int32_t i = 0; i < c.rotary / 2; ++i) {
          const size_t a = at + static_cast<size_t>(c.interleaved ? 2 * i : i);
          const size_t b = at + static_cast<size_t>(c.interleaved ? 2 * i + 1 : i + c.rotary / 2);
          const double cosine = std::cos(angle(row, i)), sine = std::sin(angle(row, i));
          ASSERT_NEAR(out[a], x[a] * cosine - x[b] * sine, 1e-6);
          ASSERT_NEAR(out[b], x[b] * cosine + x[a] * sine, 1e-6);
        }
        for (int32_t i = c.rotary; i < c.head_dim; ++i) {
          ASSERT_EQ(out[at + static_cast<size_t>(i)], x[at + static_cast<size_t>(i)]);
        }
      }
    }
  }
}

TEST(CpuOperations, SwigluFollowsTheDefinitionInDoubleOverTheWholeRange) {
  std::vector<float> gate = random_floats(3 * 1001, 8, 20.0F);
  for (int i = 0; i < 1000; ++i)
    gate[static_cast<size_t>(i)] = -100.0F + 0.2F * static_cast<float>(i);
  const std::vector<float> up = random_floats(gate.size(), 9);
  const std::vector<float> out = on_every_backend([&](Backend& backend) {
    std::vector<float> g = gate;
    std::vector<float> u = up;
    const Tensor tensor(g.data(), 3, 1001);
    backend.swiglu(tensor, Tensor(u.data(), 3, 1001), tensor);
    return g;
  });
  for (size_t i = 0; i < out.size(); ++i) {
    const double want = gate[i] / (1.0 + std::exp(-double{gate[i]})) * up[i];
    ASSERT_NEAR(out[i], want, std::fabs(want) * 4e-7 + 1e-30) << gate[i];
  }
}

TEST(CpuOperations, BlendGoesFromOneRowToTheOtherWithTheGate) {
  const std::vector<float> gate = random_floats(3 * 101, 8, 6.0F), a = random_floats(303, 9),
                           b = random_floats(303, 10);
  const std::vector<float> out = on_every_backend([&](Backend& backend) {
    std::vector<float> z = gate, first = a, second = b;
    const Tensor to(second.data(), 3, 101);
    backend.blend(Tensor(z.data(), 3, 101), Tensor(first.data(), 3, 101), to, to);
    return second;
  });
  for (size_t i = 0; i < out.size(); ++i) {
    const double share = 1.0 / (1.0 + std::exp(-double{gate[i]}));
    ASSERT_NEAR(out[i], share * a[i] + (1.0 - share) * b[i], 1e-6) << gate[i];
  }
}

TEST(CpuOperations, SurviveValuesThatAreNotFinite) {
  for (const std::string& isa : kernel_sets()) {
    const auto backend = cpu_backend(isa, 1);
    std::vector<float> gate = {kNan, kInfinity, -kInfinity, 1.0F, -0.0F};
    std::vector<float> up(5, 1.0F);
    const Tensor tensor(gate.data(), 1, 5);
    backend->swiglu(tensor, Tensor(up.data(), 1, 5), tensor);
    EXPECT_TRUE(std::isnan(gate[0])) << isa;
    EXPECT_EQ(gate[1], kInfinity) << isa;
    EXPECT_NEAR(gate[3], 0.7310586F, 1e-6F) << isa;
    EXPECT_EQ(gate[4], 0.0F) << isa;
    std::vector<float> x = {kNan, 1.0F, 2.0F};
    backend->rms_norm(Tensor(x.data(), 1, 3), up.data(), 1e-5F, Tensor(x.data(), 1, 3));
    EXPECT_TRUE(std::isnan(x[1])) << isa;
  }
}

TEST(CpuOperations, AddAndGatherRowsAreExact) {
  const std::vector<float> x = random_floats(40 * 530, 10);
  std::vector<float> y = random_floats(x.size(), 11);
  const std::vector<float> sum = on_every_backend([&](Backend& backend) {
    std::vector<float> copy = x;
    backend.add(Tensor(copy.data(), 40, 530), Tensor(y.data(), 40, 530));
    return copy;
  });
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(sum[i], x[i] + y[i]);
  const std::vector<int32_t> rows = {39, 0, 7, 7};
  const std::vector<float> gathered = on_every_backend([&](Backend& backend) {
    std::vector<float> copy = x;
    std::vector<float> out(4 * 530);
    backend.gather_rows(Tensor(copy.data(), 40, 530), rows, Tensor(out.data(), 4, 530));
    return out;
  });
  for (size_t i = 0; i < gathered.size(); ++i) {
    ASSERT_EQ(gathered[i], x[static_cast<size_t>(rows[i / 530]) * 530 + i % 530]);
  }
}

TEST(CpuOperations, TopKOrdersByValueThenById) {
  std::vector<float> x = random_floats(6 * 1003, 12);
  for (size_t i = 0; i < x.size(); i += 3) x[i] = std::round(x[i] * 4.0F) / 4.0F;  // ties
  for (size_t i = 0; i < 1003; ++i) x[1003 + i] = 1.0F;                            // a row of ties
  for (size_t i = 0; i < 1003; ++i) x[2006 + i] = i % 100 == 50 ? -2.0F : kNan;
  for (size_t i = 0; i < 1003; ++i)
    x[3009 + i] = static_cast<float>(i);  // every value beats those before
  x[4012 + 500] = kInfinity;
  for (int32_t k : {1, 2, 7, 64, 1003}) {
    const std::vector<float> flat = on_every_backend([&](Backend& backend) {
      std::vector<float> copy = x;
      std::vector<int32_t> ids(static_cast<size_t>(6 * k));
      std::vector<float> values(ids.size());
      backend.top_k(Tensor(copy.data(), 6, 1003), k, ids, values);
      for (int32_t id : ids) values.push_back(static_cast<float>(id));
      return values;
    });
    for (size_t row = 0; row < 6; ++row) {
      std::vector<float> value(x.begin() + static_cast<int64_t>(row) * 1003,
                               x.begin() + static_cast<int64_t>(row + 1) * 1003);
      for (float& v : value) v = std::isnan(v) ? -kInfinity : v;
      std::vector<int32_t> order(1003);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return value[static_cast<size_t>(a)] > value[static_cast<size_t>(b)];
      });
      for (size_t i = 0; i < static_cast<size_t>(k); ++i) {
        const size_t at = row * static_cast<size_t>(k) + i;
        ASSERT_EQ(flat[at], value[static_cast<size_t>(order[i])]) << "row " << row << " k " << k;
        ASSERT_EQ(flat[static_cast<size_t>(6 * k) + at], static_cast<float>(order[i]))
            << "row " << row << " k " << k;
      }
    }
  }
}

TEST(CpuOperations, RefuseShapesThatDisagree) {
  const auto backend = cpu_backend("scalar", 1);
  std::vector<float> x(64), y(64);
  std::vector<int32_t> ids(4);
  EXPECT_THROW(backend->add(Tensor(x.data(), 2, 8), Tensor(y.data(), 2, 9)), Error);
  EXPECT_THROW(backend->head_norm(Tensor(x.data(), 2, 9), 2, y.data(), 1e-5F), Error);
  EXPECT_THROW(backend->rope(Tensor(x.data(), 2, 8), 2, Tensor(y.data(), 2, 6), false), Error);
  EXPECT_THROW(backend->top_k(Tensor(x.data(), 2, 8), 9, ids, y), Error);
  EXPECT_THROW(backend->top_k(Tensor(x.data(), 2, 8), 3, ids, y), Error);
  EXPECT_THROW(backend->top_k(Tensor(x.data(), 2, 8), 0, ids, y), Error);
}

TEST(CpuMemory, IsAlignedZeroedAndFreedByItsBuffer) {
  const auto backend = cpu_backend("scalar", 1);
  for (int64_t bytes : {int64_t{1}, int64_t{100}, int64_t{5} << 20}) {
    Buffer buffer = backend->allocate(bytes);
    ASSERT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0U);
    const auto* data = static_cast<const uint8_t*>(buffer.data());
    for (int64_t i = 0; i < bytes; i += 97) ASSERT_EQ(data[i], 0);
    Buffer moved = std::move(buffer);
    EXPECT_EQ(buffer.data(), nullptr);
    EXPECT_EQ(moved.bytes(), bytes);
  }
  try {
    backend->allocate(int64_t{1} << 60);
    FAIL() << "an exabyte was given out";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find(std::to_string(int64_t{1} << 60)), std::string::npos);
  }
}

TEST(CpuMemory, PiecesAreApartAndZeroedWhenTheyAreGivenOutAgain) {
  const auto backend = make_cpu_backend(1);
  const auto fill = [](const Buffer& buffer, int value) {
    std::fill_n(static_cast<uint8_t*>(buffer.data()), buffer.bytes(), static_cast<uint8_t>(value));
  };
  const auto holds = [](const Buffer& buffer, int value) {
    const auto* first = static_cast<const uint8_t*>(buffer.data());
    return std::all_of(first, first + buffer.bytes(), [=](uint8_t byte) { return byte == value; });
  };
  for (const int64_t bytes : {int64_t{1}, int64_t{100'001}, int64_t{1'835'008}, int64_t{5} << 20}) {
    std::vector<Buffer> buffers;  // more than a block of the smaller ones holds
    for (int i = 0; i < 20; ++i) {
      buffers.push_back(backend->allocate(bytes));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(buffers.back().data()) % 64, 0U);
      ASSERT_TRUE(holds(buffers.back(), 0)) << bytes << ", " << i;
      fill(buffers.back(), i + 1);
    }
    for (int i = 0; i < 20; i += 2) buffers[static_cast<size_t>(i)] = Buffer();
    for (int i = 0; i < 20; i += 2) {
      Buffer& again = buffers[static_cast<size_t>(i)] = backend->allocate(bytes);
      ASSERT_TRUE(holds(again, 0)) << bytes << ", " << i;
      fill(again, i + 1);
    }
    for (int i = 0; i < 20; ++i) {
      ASSERT_TRUE(holds(buffers[static_cast<size_t>(i)], i + 1)) << bytes << ", " << i;
    }
  }
}

TEST(CpuMemory, APieceLiesInItsBlockAndBehindTheOneBefore) {
  PageArena arena;
  PagePiece before = arena.take(100);
  for (int i = 0; i < 200; ++i) {
    const PagePiece piece = arena.take(1'000'000 + i);
    const uint8_t* first = piece.block->data();
    ASSERT_GE(piece.data, piece.block == before.block ? before.data + before.bytes : first) << i;
    ASSERT_LE(piece.data + piece.bytes, first + piece.block->bytes()) << i;
    before = piece;
  }
}

TEST(CpuMemory, MeasuresAReadBandwidth) {
  const double speed = measure_read_bandwidth(2, int64_t{1} << 20);
  EXPECT_GT(speed, 0.05);
  EXPECT_LT(speed, 1e5);
}

TEST(CudaLoader, SaysWhyThereIsNoDevice) {
  const CudaStatus status = cuda_status();
  if (status.available) GTEST_SKIP() << "a device is here: " << status.text;
  EXPECT_FALSE(status.text.empty());
  EXPECT_THROW(make_cuda_backend(0), Error);
}

}  // namespace
}  // namespace forerun::test
